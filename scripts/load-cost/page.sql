\set n random(1, 130)
\set after 0
\set rows 21
select head.*, p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency,
    p.stock, p.view_count, p.version, p.updated_at, coalesce((select version from cache_ledger where tag = 'product:' || p.id), 0) as tag_version
from (select case
    when pg_is_in_recovery() <> (coalesce(current_setting('aside.replica', true), '') = 'on') then null
    when pg_is_in_recovery() then pg_last_xact_replay_timestamp() - interval '1 second'
    else now()
end as read_at, array(
    select coalesce((select version from cache_ledger where cache_ledger.tag = asked.tag), 0)
    from unnest(array[E'product-list\x3acategory\x3aCATEGORY' || :n]::text[]) as asked (tag)
) as tag_versions) as head
left join lateral (
    select * from products where discontinued_at is null
        and (category, id) > ('CATEGORY' || :n, :after) and category <= 'CATEGORY' || :n and null::text is null
    order by category, id limit :rows
) p on true;
