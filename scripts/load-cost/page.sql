\set n random(1, 130)
\set after 0
\set rows 21
select head.*, p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency,
    p.stock, p.view_count, p.version, p.updated_at, coalesce((select ver from cache_ledger where name = 'product:' || p.id), 0) as ver
from (select case
    when pg_is_in_recovery() <> (coalesce(current_setting('aside.replica', true), '') = 'on') then null
    when pg_is_in_recovery() then pg_last_xact_replay_timestamp() - interval '1 second'
    else now()
end as read_at, array(
    select coalesce((select ver from cache_ledger where name = tag.name), 0)
    from unnest(array[E'product-list\x3acategory\x3aCATEGORY' || :n]::text[]) as tag (name)
) as tag_versions) as head
left join lateral (
    select * from products where discontinued_at is null
        and (category, id) > ('CATEGORY' || :n, :after) and category <= 'CATEGORY' || :n and null::text is null
    order by category, id limit :rows
) p on true;
