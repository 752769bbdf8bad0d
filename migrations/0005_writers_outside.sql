-- Writers outside of the service (psql, migrations, other programs) raise numbers too: triggers name what their statements
-- change. The service names its changes itself, at the end of its transactions, and says so by the setting
-- `aside.names_changes` of its connections, so that nothing is done twice and hot names are locked for a short time only.

-- A segment of a name, escaped as the service does it (src/cache/key.rs); a test compares the two.
create function cache_segment(value text) returns text
    language sql immutable strict parallel safe
    return (
        select coalesce(string_agg(
            case when chr(byte) ~ '^[A-Za-z0-9._-]$' and byte < 128 then chr(byte)
                 else '%' || lpad(upper(to_hex(byte)), 2, '0') end, '' order by at), '')
        from (select at, get_byte(convert_to(value, 'UTF8'), at) as byte
              from generate_series(0, octet_length(value) - 1) as at) as bytes
    );

-- Raises the numbers of names, once for each transaction, in one order for all writers. The same for a person:
--   select cache_raise(array['product:42', 'order:demo:*']);
create function cache_raise(names text[]) returns void
    language sql
    begin atomic
        insert into cache_ledger as ledger (name, ver)
        select name, nextval('cache_ver') from (select distinct unnest(names) as name) as named
        where name is not null order by name
        on conflict (name) do update set ver = nextval('cache_ver'), xid = pg_current_xact_id(), at = clock_timestamp()
        where ledger.xid <> pg_current_xact_id();
    end;

create function cache_names_of_product(id bigint, category text, department text) returns text[]
    language sql immutable parallel safe
    return array['product:' || id, 'product-list#' || mod(id, 16),
                 'product-list:category:' || cache_segment(category),
                 'product-list:department:' || cache_segment(department) || '#' || mod(id, 16)];

create function cache_products_changed() returns trigger language plpgsql as $$
begin
    if current_setting('aside.names_changes', true) = 'on' then
        return null;
    end if;
    if tg_op = 'INSERT' then
        perform cache_raise((select array_agg(touched) from new_rows,
            unnest(cache_names_of_product(id, category, department)) as touched));
    elsif tg_op = 'DELETE' then
        perform cache_raise((select array_agg(touched) from old_rows,
            unnest(cache_names_of_product(id, category, department)) as touched));
    else
        -- Views change nothing that is promised to be fresh. Lists change only when a product comes, goes or moves.
        perform cache_raise((
            select array_agg(touched)
            from old_rows before full join new_rows after using (id)
            cross join lateral unnest(
                case when (before.category, before.department, before.discontinued_at)
                          is distinct from (after.category, after.department, after.discontinued_at)
                     then cache_names_of_product(id, before.category, before.department)
                          || cache_names_of_product(id, after.category, after.department)
                     else array['product:' || id] end) as touched
            where to_jsonb(before) - 'view_count' is distinct from to_jsonb(after) - 'view_count'));
    end if;
    return null;
end $$;

create function cache_orders_changed() returns trigger language plpgsql as $$
begin
    if current_setting('aside.names_changes', true) = 'on' then
        return null;
    end if;
    if tg_op in ('UPDATE', 'DELETE') then
        perform cache_raise((select array_agg(touched) from old_rows,
            unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as touched));
    end if;
    if tg_op in ('UPDATE', 'INSERT') then
        perform cache_raise((select array_agg(touched) from new_rows,
            unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as touched));
    end if;
    return null;
end $$;

create function cache_order_items_changed() returns trigger language plpgsql as $$
begin
    if current_setting('aside.names_changes', true) = 'on' then
        return null;
    end if;
    if tg_op in ('UPDATE', 'DELETE') then
        perform cache_raise((select array_agg(touched) from orders,
            unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as touched
            where id in (select order_id from old_rows)));
    end if;
    if tg_op in ('UPDATE', 'INSERT') then
        perform cache_raise((select array_agg(touched) from orders,
            unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as touched
            where id in (select order_id from new_rows)));
    end if;
    return null;
end $$;

-- TRUNCATE shows no rows: everything there is becomes old.
create function cache_truncated() returns trigger language plpgsql as $$
begin
    perform cache_raise(array['*']);
    return null;
end $$;

create trigger names_inserted after insert on products referencing new table as new_rows
    for each statement execute function cache_products_changed();
create trigger names_updated after update on products referencing old table as old_rows new table as new_rows
    for each statement execute function cache_products_changed();
create trigger names_deleted after delete on products referencing old table as old_rows
    for each statement execute function cache_products_changed();
create trigger names_truncated after truncate on products for each statement execute function cache_truncated();

create trigger names_inserted after insert on orders referencing new table as new_rows
    for each statement execute function cache_orders_changed();
create trigger names_updated after update on orders referencing old table as old_rows new table as new_rows
    for each statement execute function cache_orders_changed();
create trigger names_deleted after delete on orders referencing old table as old_rows
    for each statement execute function cache_orders_changed();
create trigger names_truncated after truncate on orders for each statement execute function cache_truncated();

create trigger names_inserted after insert on order_items referencing new table as new_rows
    for each statement execute function cache_order_items_changed();
create trigger names_updated after update on order_items referencing old table as old_rows new table as new_rows
    for each statement execute function cache_order_items_changed();
create trigger names_deleted after delete on order_items referencing old table as old_rows
    for each statement execute function cache_order_items_changed();
create trigger names_truncated after truncate on order_items for each statement execute function cache_truncated();

-- Restores and replication run with triggers off; these stay on.
alter table products enable always trigger names_inserted, enable always trigger names_updated,
    enable always trigger names_deleted, enable always trigger names_truncated;
alter table orders enable always trigger names_inserted, enable always trigger names_updated,
    enable always trigger names_deleted, enable always trigger names_truncated;
alter table order_items enable always trigger names_inserted, enable always trigger names_updated,
    enable always trigger names_deleted, enable always trigger names_truncated;
