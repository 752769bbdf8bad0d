-- Invoices of a tenant's customers, with their lines. The tables of the cache have migrations of
-- their own, which run before this one.
create table invoices (
    tenant   text        not null check (tenant ~ '^[a-z0-9-]{1,64}$'),
    number   text        not null check (length(number) between 1 and 40),
    customer bigint      not null,
    status   text        not null default 'draft' check (status in ('draft', 'sent', 'paid')),
    due_at   timestamptz not null,
    -- Raised by every change.
    version  bigint      not null default 1,
    primary key (tenant, number)
);
create index invoices_by_customer on invoices (tenant, customer, status, number);

create table invoice_lines (
    tenant       text   not null,
    number       text   not null,
    position     bigint not null,
    text         text   not null,
    amount_cents bigint not null,
    primary key (tenant, number, position),
    foreign key (tenant, number) references invoices on delete cascade
);

-- Writers outside of the service (psql, migrations, other programs) raise versions by triggers. The
-- service raises the versions of its own changes, and `aside.invalidates` turns the triggers off.
create function cache_tags_of_invoice(tenant text, number text, customer bigint, status text) returns text[]
    language sql immutable parallel safe
    return array['invoice:' || tenant || ':' || cache_segment(number),
                 'invoice-list:' || tenant || ':' || customer || ':' || status];

create function cache_invoices_changed() returns trigger language plpgsql as $$
begin
    if current_setting('aside.invalidates', true) = 'on' then
        return null;
    end if;
    if tg_op in ('UPDATE', 'DELETE') then
        perform cache_raise(array(select unnest(cache_tags_of_invoice(tenant, number, customer, status))
                                  from (select * from old_rows limit 1001) as changed));
    end if;
    if tg_op in ('UPDATE', 'INSERT') then
        perform cache_raise(array(select unnest(cache_tags_of_invoice(tenant, number, customer, status))
                                  from (select * from new_rows limit 1001) as changed));
    end if;
    return null;
end $$;

-- A line is a part of its invoice. If the invoice is deleted, its own trigger raises the tags.
create function cache_invoice_lines_changed() returns trigger language plpgsql as $$
begin
    if current_setting('aside.invalidates', true) = 'on' then
        return null;
    end if;
    if tg_op in ('UPDATE', 'DELETE') then
        perform cache_raise(array(select unnest(cache_tags_of_invoice(tenant, number, customer, status))
                                  from (select distinct tenant, number from old_rows limit 1001) as changed
                                  join invoices using (tenant, number)));
    end if;
    if tg_op in ('UPDATE', 'INSERT') then
        perform cache_raise(array(select unnest(cache_tags_of_invoice(tenant, number, customer, status))
                                  from (select distinct tenant, number from new_rows limit 1001) as changed
                                  join invoices using (tenant, number)));
    end if;
    return null;
end $$;

do $$
declare
    tracked text;
begin
    foreach tracked in array array['invoices', 'invoice_lines'] loop
        execute format('
            create trigger invalidates_inserted after insert on %1$I referencing new table as new_rows
                for each statement execute function cache_%1$s_changed();
            create trigger invalidates_updated after update on %1$I referencing old table as old_rows new table as new_rows
                for each statement execute function cache_%1$s_changed();
            create trigger invalidates_deleted after delete on %1$I referencing old table as old_rows
                for each statement execute function cache_%1$s_changed();
            create trigger invalidates_truncated after truncate on %1$I for each statement execute function cache_truncated();
            alter table %1$I enable always trigger invalidates_inserted, enable always trigger invalidates_updated,
                enable always trigger invalidates_deleted, enable always trigger invalidates_truncated', tracked);
    end loop;
end $$;
select cache_fix_search_paths();
