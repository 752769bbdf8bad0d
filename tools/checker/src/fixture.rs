//! The rows of a run, and every state of them that Postgres has committed.

use std::collections::HashMap;

use aside::domain::{
    orders::{Order, OrderItem},
    products::Product,
};
use serde_json::Value;
use sqlx::{PgPool, Row};

use crate::{
    check::history::{Audit, Key, List, Sight, State},
    pace::Clock,
};

/// Products that only direct SQL writers delete and make again, with the same id.
pub const WILD: [i64; 3] = [90_000_001, 90_000_002, 90_000_003];
/// Products that only the slow writer changes.
pub const SLOW: [i64; 2] = [90_000_011, 90_000_012];
/// Customers who order.
pub const CUSTOMERS: [i64; 6] = [900_001, 900_002, 900_003, 900_004, 900_005, 900_006];

/// The rows that clients ask for.
pub struct Hot {
    /// Products with their real popularity, most viewed first.
    pub products: Vec<(i64, f64)>,
    /// Products that clients can order.
    pub ordered: Vec<i64>,
    pub categories: Vec<String>,
    pub department: String,
}

/// Prepares the recording of states and chooses the rows of the run. Whole categories are chosen,
/// so that their lists can be checked.
pub async fn prepare(db: &PgPool) -> Result<Hot, sqlx::Error> {
    let categories: Vec<String> = sqlx::query_scalar(
        "select category from products group by category having count(*) between 4 and 10
         order by sum(view_count) desc, category limit 6",
    )
    .fetch_all(db)
    .await?;
    for (at, id) in WILD.iter().chain(&SLOW).enumerate() {
        sqlx::query(
            "insert into products (id, name, department, brand, category, type, price_cents, currency, stock, view_count)
             select $1, 'Checked ' || $1, department, brand, category, type, 100, currency, 1, view_count
             from products where category = $2 order by view_count desc limit 1",
        )
        .bind(id)
        .bind(&categories[at % categories.len()])
        .execute(db)
        .await?;
    }
    // A run cannot sell out this much stock.
    sqlx::query("update products set stock = 900000000 where category = any($1)").bind(&categories).execute(db).await?;
    sqlx::raw_sql(include_str!("fixture.sql")).execute(db).await?;
    sqlx::query(
        "insert into checker.audit (kind, id, version, alive, doc, xid)
         select 'product', id, version, true, to_jsonb(p), '0' from products p where category = any($1)",
    )
    .bind(&categories)
    .execute(db)
    .await?;
    let rows = sqlx::query(
        "select id, view_count, department from products where category = any($1) order by view_count desc, id",
    )
    .bind(&categories)
    .fetch_all(db)
    .await?;
    let products: Vec<(i64, f64)> = rows
        .iter()
        .map(|row| Ok((row.try_get("id")?, row.try_get::<i64, _>("view_count")? as f64 + 1.0)))
        .collect::<Result<_, sqlx::Error>>()?;
    let reserved = |id: &i64| WILD.contains(id) || SLOW.contains(id);
    let ordered = products.iter().map(|(id, _)| *id).filter(|id| !reserved(id)).collect();
    Ok(Hot { products, ordered, categories, department: rows[0].try_get("department")? })
}

/// All committed states.
pub async fn audit(db: &PgPool, clock: &Clock) -> Result<Audit, Box<dyn std::error::Error>> {
    // One snapshot for all queries: transactions that were in progress when the clients stopped may
    // still commit.
    let mut db = db.begin_with("begin isolation level repeatable read").await?;
    let mut items: HashMap<i64, Vec<OrderItem>> = HashMap::new();
    let rows = sqlx::query(
        "select i.order_id, jsonb_agg(to_jsonb(i) order by i.product_id) as items from order_items i
         join orders o on o.id = i.order_id where o.customer_id = any($1) group by i.order_id",
    )
    .bind(CUSTOMERS)
    .fetch_all(&mut *db)
    .await?;
    for row in rows {
        items.insert(row.try_get("order_id")?, serde_json::from_value(row.try_get("items")?)?);
    }
    let rows = sqlx::query(
        "select kind, id, version, alive, doc, xid::text as xid, (extract(epoch from at) * 1000000)::bigint as at
         from checker.audit order by seq",
    )
    .fetch_all(&mut *db)
    .await?;
    let mut audit = Audit::new();
    for row in rows {
        let (id, version): (i64, i64) = (row.try_get("id")?, row.try_get("version")?);
        let (alive, mut doc): (bool, Value) = (row.try_get("alive")?, row.try_get("doc")?);
        let xid: u64 = row.try_get::<String, _>("xid")?.parse()?;
        let (key, sight, list) = if row.try_get::<&str, _>("kind")? == "product" {
            let product: Product = serde_json::from_value(doc)?;
            let list = List::Category(product.category.clone());
            (Key::Product(id), sight_of_product(product), list)
        } else {
            doc["items"] = serde_json::to_value(items.get(&id).ok_or("an order without items")?)?;
            let order: Order = serde_json::from_value(doc)?;
            (Key::Order(id), sight_of_order(&order), List::Customer(order.customer_id))
        };
        let (digest, member) = if alive { (Some(sight.digest), Some(list)) } else { (None, None) };
        let made = clock.moment(row.try_get("at")?);
        let states = audit.entry(key).or_default();
        if states.is_empty() && xid > 0 {
            states.push(State::absent());
        }
        states.push(State { version, digest, member, xid, made });
    }
    Ok(audit)
}

/// The digest leaves out the view count, because the service promises nothing about it.
pub fn sight_of_product(mut product: Product) -> Sight {
    product.view_count = 0;
    Sight { version: product.version, digest: digest(&product) }
}

pub fn sight_of_order(order: &Order) -> Sight {
    Sight { version: order.version, digest: digest(order) }
}

fn digest(value: &impl serde::Serialize) -> u64 {
    aside_cache::digest(&serde_json::to_vec(value).expect("a value has a JSON form"))
}
