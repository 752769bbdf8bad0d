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
