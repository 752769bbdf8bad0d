-- Writers outside of the service (psql, migrations, other programs) raise versions too, by triggers
-- on the tables that they change. The service raises the versions of its own changes at the end of
-- its transactions. Its connections have the setting `aside.invalidates`, which turns the triggers
-- off. No version is then raised twice, and rows of sharded tags are locked only briefly.

create function cache_tags_of_product(id bigint, category text, department text) returns text[]
    language sql immutable parallel safe
    return array['product:' || id, 'product-list#' || mod(id, 16),
                 'product-list:category:' || cache_segment(category),
                 'product-list:department:' || cache_segment(department) || '#' || mod(id, 16)];

-- The triggers raise the tags of the rows that a statement changed. Of more than a thousand rows
-- they pass on only the first, however long the statement was. That is enough for `cache_raise` to
-- raise the patterns instead.
create function cache_products_changed() returns trigger language plpgsql as $$
declare
    tags text[];
begin
    if current_setting('aside.invalidates', true) = 'on' then
        return null;
    end if;
    if tg_op = 'INSERT' then
        tags := array(
            select invalidated from (select * from new_rows limit 1001) as made,
                unnest(cache_tags_of_product(id, category, department)) as invalidated);
    elsif tg_op = 'DELETE' then
        tags := array(
            select invalidated from (select * from old_rows limit 1001) as gone,
                unnest(cache_tags_of_product(id, category, department)) as invalidated);
    else
        -- Views change nothing with a freshness promise. Lists change only if a product is added,
        -- removed or moved.
        tags := array(
            select invalidated
            from (
                select id, before, after from old_rows before full join new_rows after using (id)
                where before is distinct from after and (before.view_count is not distinct from after.view_count
                    or to_jsonb(before) - 'view_count' is distinct from to_jsonb(after) - 'view_count')
                limit 1001
            ) as changed
            cross join lateral unnest(
                case when ((before).category, (before).department, (before).discontinued_at)
                          is distinct from ((after).category, (after).department, (after).discontinued_at)
                     then cache_tags_of_product(id, (before).category, (before).department)
                          || cache_tags_of_product(id, (after).category, (after).department)
                     else array['product:' || id] end) as invalidated);
        if cardinality(tags) > 1000 then
            -- The remaining rows are not examined, and one of them may have moved.
            tags := tags || 'product-list:*'::text;
        end if;
    end if;
    perform cache_raise(tags);
    return null;
end $$;

create function cache_orders_changed() returns trigger language plpgsql as $$
begin
    if current_setting('aside.invalidates', true) = 'on' then
        return null;
    end if;
    if tg_op in ('UPDATE', 'DELETE') then
        perform cache_raise(array(
            select invalidated from (select * from old_rows limit 1001) as changed,
                unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as invalidated));
    end if;
    if tg_op in ('UPDATE', 'INSERT') then
        perform cache_raise(array(
            select invalidated from (select * from new_rows limit 1001) as changed,
                unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as invalidated));
    end if;
    return null;
end $$;

create function cache_order_items_changed() returns trigger language plpgsql as $$
begin
    if current_setting('aside.invalidates', true) = 'on' then
        return null;
    end if;
    if tg_op in ('UPDATE', 'DELETE') then
        perform cache_raise(array(
            select invalidated from (select distinct order_id as id from old_rows limit 1001) as changed join orders using (id),
                unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as invalidated));
    end if;
    if tg_op in ('UPDATE', 'INSERT') then
        perform cache_raise(array(
            select invalidated from (select distinct order_id as id from new_rows limit 1001) as changed join orders using (id),
                unnest(array['order:' || tenant || ':' || id, 'order-list:' || tenant || ':' || customer_id]) as invalidated));
    end if;
    return null;
end $$;

create trigger invalidates_inserted after insert on products referencing new table as new_rows
    for each statement execute function cache_products_changed();
create trigger invalidates_updated after update on products referencing old table as old_rows new table as new_rows
    for each statement execute function cache_products_changed();
create trigger invalidates_deleted after delete on products referencing old table as old_rows
    for each statement execute function cache_products_changed();
create trigger invalidates_truncated after truncate on products for each statement execute function cache_truncated();

create trigger invalidates_inserted after insert on orders referencing new table as new_rows
    for each statement execute function cache_orders_changed();
create trigger invalidates_updated after update on orders referencing old table as old_rows new table as new_rows
    for each statement execute function cache_orders_changed();
create trigger invalidates_deleted after delete on orders referencing old table as old_rows
    for each statement execute function cache_orders_changed();
create trigger invalidates_truncated after truncate on orders for each statement execute function cache_truncated();

create trigger invalidates_inserted after insert on order_items referencing new table as new_rows
    for each statement execute function cache_order_items_changed();
create trigger invalidates_updated after update on order_items referencing old table as old_rows new table as new_rows
    for each statement execute function cache_order_items_changed();
create trigger invalidates_deleted after delete on order_items referencing old table as old_rows
    for each statement execute function cache_order_items_changed();
create trigger invalidates_truncated after truncate on order_items for each statement execute function cache_truncated();

-- Sessions that replicate or restore (`session_replication_role = replica`) fire only triggers that
-- are enabled for them. Each instance checks every minute that all triggers still are
-- (`triggers.rs` of the cache).
alter table products enable always trigger invalidates_inserted, enable always trigger invalidates_updated,
    enable always trigger invalidates_deleted, enable always trigger invalidates_truncated;
alter table orders enable always trigger invalidates_inserted, enable always trigger invalidates_updated,
    enable always trigger invalidates_deleted, enable always trigger invalidates_truncated;
alter table order_items enable always trigger invalidates_inserted, enable always trigger invalidates_updated,
    enable always trigger invalidates_deleted, enable always trigger invalidates_truncated;

-- A change by another writer also raises the version of the row, so that a client's If-Match
-- notices it. The trigger ignores a writer that raises the version itself, and the service's own
-- writes. Views raise no version.
create function count_version() returns trigger language plpgsql as $$
begin
    if new.version = old.version and to_jsonb(old) - 'view_count' is distinct from to_jsonb(new) - 'view_count' then
        new.version := old.version + 1;
        if new.updated_at = old.updated_at then
            new.updated_at := clock_timestamp();
        end if;
    end if;
    return new;
end $$;
-- The trigger names no column, because Postgres refuses to change the type of a named column.
create trigger counts_version before update on products for each row
    when (current_setting('aside.invalidates', true) is distinct from 'on') execute function count_version();
create trigger counts_version before update on orders for each row
    when (current_setting('aside.invalidates', true) is distinct from 'on') execute function count_version();

select cache_fix_search_paths();
