\set id random(1, 60000)
select q.*, case
    when pg_is_in_recovery() <> (coalesce(current_setting('aside.replica', true), '') = 'on') then null
    when pg_is_in_recovery() then pg_last_xact_replay_timestamp() - interval '1 second'
    else now()
end as "cache.read_at", coalesce((select version from cache_ledger where tag = 'product:' || :id), 0) as "cache.version_0" from (select p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency,
    p.stock, p.view_count, p.version, p.updated_at
from products p where p.id = :id and p.discontinued_at is null) as q limit 1;
