\set n random(1, 130)
\set after 0
\set rows 21
select q.*, head.*, coalesce((select version from cache_ledger where tag = q."cache.row_tag"), 0) as "cache.row_version" from (select case
    when pg_is_in_recovery() <> (coalesce(current_setting('aside.replica', true), '') = 'on') then null
    when pg_is_in_recovery() then pg_last_xact_replay_timestamp() - interval '1 second'
    else now()
end as "cache.read_at", coalesce((select version from cache_ledger where tag = E'product-list\x3acategory\x3aCATEGORY' || :n), 0) as "cache.version_0") as head
left join lateral (
    select numbered.*, row_number() over () as "cache.row", 'product:' || case when numbered."id"::text ~ '^[A-Za-z0-9._-]*$' then numbered."id"::text else cache_segment(numbered."id"::text) end as "cache.row_tag" from (select p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency,
    p.stock, p.view_count, p.version, p.updated_at
from products p
where p.discontinued_at is null and (p.category, p.id) > ('CATEGORY' || :n, :after) and p.category <= 'CATEGORY' || :n
order by p.category, p.id limit :rows) as numbered
) as q on true;
