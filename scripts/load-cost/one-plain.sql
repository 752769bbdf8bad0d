\set id random(1, 60000)
select p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency,
    p.stock, p.view_count, p.version, p.updated_at
from products p where p.id = :id and p.discontinued_at is null;
