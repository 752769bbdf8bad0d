\set n random(1, 130)
\set after 0
\set rows 21
select p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency,
    p.stock, p.view_count, p.version, p.updated_at
from products p
where p.discontinued_at is null and (p.category, p.id) > ('CATEGORY' || :n, :after) and p.category <= 'CATEGORY' || :n
order by p.category, p.id limit :rows;
