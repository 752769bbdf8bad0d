//! Copies new rows from the staging tables to the real ones.

use sqlx::{PgConnection, PgPool};

/// The tenant of every loaded order.
const TENANT: &str = "demo";

/// Adds the missing rows and returns how many products, orders and lines it added.
pub(super) async fn merge(db: &mut PgConnection) -> Result<(u64, u64, u64), sqlx::Error> {
    // Rows that already exist are first deleted from the staging tables, which then contain only new
    // rows.
    run(db, "delete from staged_products s using products p where p.id = s.id").await?;
    run(db, "delete from staged_lines s using orders o where o.id = s.order_id").await?;
    run(db, "delete from staged_orders s using orders o where o.id = s.id").await?;
    for table in ["analyze staged_products", "analyze staged_orders", "analyze staged_lines"] {
        run(db, table).await?;
    }
    let products = run(
        db,
        "insert into products (id, name, department, brand, category, type, package_size, price_cents, currency, stock, view_count)
         select id, name, department, brand, category, type, package_size, price_cents, 'USD', stock, view_count
         from staged_products order by id",
    )
    .await?;
    // Orders of the last three days are not delivered yet, so that there are orders to confirm,
    // ship and cancel. The initial stock does not include the units of any loaded order.
    let sql = "insert into orders (id, tenant, customer_id, status, total_cents, currency, placed_at, updated_at)
         select o.id, $1, o.customer_id,
                case (select max(placed_at) from staged_orders)::date - o.placed_at::date
                    when 0 then 'pending' when 1 then 'confirmed' when 2 then 'shipped' else 'delivered' end,
                sum(l.quantity * l.unit_price_cents), 'USD', o.placed_at, o.placed_at
         from staged_orders o join staged_lines l on l.order_id = o.id
         group by o.id, o.customer_id, o.placed_at order by o.id";
    let orders = sqlx::query(sql).bind(TENANT).execute(&mut *db).await?.rows_affected();
    let lines = run(
        db,
        "insert into order_items (order_id, product_id, name, quantity, unit_price_cents)
         select l.order_id, l.product_id, p.name, l.quantity, l.unit_price_cents
         from staged_lines l left join products p on p.id = l.product_id order by l.order_id, l.product_id",
    )
    .await?;
    Ok((products, orders, lines))
}

/// Updates the statistics. Otherwise the first queries after a large load would be planned for
/// empty tables.
pub(super) async fn analyze(db: &PgPool) -> Result<(), sqlx::Error> {
    for table in ["analyze products", "analyze orders", "analyze order_items", "analyze cache_ledger"] {
        sqlx::query(table).execute(db).await?;
    }
    Ok(())
}

async fn run(db: &mut PgConnection, sql: &'static str) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(sql).execute(db).await?.rows_affected())
}
