-- What really happened, written down by the database itself in the transaction of each change. In the checker's own database only.

create schema checker;

create table checker.audit (
    seq     bigserial primary key, -- taken under the row's lock, so it orders the states of a row
    kind    text    not null,
    id      bigint  not null,
    version bigint  not null,
    alive   boolean not null,
    doc     jsonb   not null,
    xid     xid8    not null default pg_current_xact_id(),
    at      timestamptz not null default clock_timestamp()
);
create index on checker.audit (kind, id);

create function checker.note_product() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        insert into checker.audit (kind, id, version, alive, doc)
        values ('product', old.id, old.version + 1, false, to_jsonb(old));
    elsif tg_op = 'INSERT' or to_jsonb(new) - 'view_count' <> to_jsonb(old) - 'view_count' then
        insert into checker.audit (kind, id, version, alive, doc)
        values ('product', new.id, new.version, new.discontinued_at is null, to_jsonb(new));
    end if;
    return null;
end $$;

create function checker.note_order() returns trigger language plpgsql as $$
begin
    insert into checker.audit (kind, id, version, alive, doc) values ('order', new.id, new.version, true, to_jsonb(new));
    return null;
end $$;

create trigger checker after insert or update or delete on products for each row execute function checker.note_product();
create trigger checker after insert or update on orders for each row execute function checker.note_order();

-- For writers that are not the service: what every write of the service does before it commits.
create function checker.raise_names(variadic names text[]) returns void language sql as $$
    insert into public.cache_ledger as ledger (name, ver)
    select name, nextval('public.cache_ver') from unnest(names) as touched (name) group by name order by name
    on conflict (name) do update set ver = nextval('public.cache_ver'), xid = pg_current_xact_id()
$$;

create function checker.escape(segment text) returns text language sql immutable as $$
    select string_agg(
        case when c ~ '[A-Za-z0-9._-]' then c
             else regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', '%\1', 'g') end, '' order by at)
    from regexp_split_to_table(segment, '') with ordinality as letters (c, at)
$$;

-- The lists that a product joins or leaves.
create function checker.raise_lists(id bigint) returns void language sql as $$
    select checker.raise_names('product:' || id, 'product-list', 'product-list:category:' || checker.escape(category),
                               'product-list:department:' || checker.escape(department))
    from products where products.id = $1
$$;
