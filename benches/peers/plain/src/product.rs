//! The product as the service shows it, and its statements. Each is as plain as possible.

use std::collections::HashMap;

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// The same members as those of the service's answer, in the same order.
#[derive(Clone, Serialize, Deserialize, sqlx::FromRow)]
pub struct Product {
    id: i64,
    name: String,
    department: String,
    brand: String,
    category: String,
    #[serde(rename = "type")]
    #[sqlx(rename = "type")]
    kind: String,
    package_size: Option<String>,
    price_cents: i64,
    currency: String,
    stock: i32,
    view_count: i64,
    version: i64,
    updated_at: DateTime<Utc>,
}

/// The fields that a client may change.
#[derive(Deserialize)]
pub struct Change {
    price_cents: i64,
}

pub async fn find(db: &PgPool, id: i64) -> sqlx::Result<Option<Product>> {
    sqlx::query_as(
        "select id, name, department, brand, category, type, package_size, price_cents, currency, stock, view_count, version, updated_at
         from products where id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await
}

pub async fn update(db: &PgPool, id: i64, change: &Change) -> sqlx::Result<Option<Product>> {
    sqlx::query_as(
        "update products set price_cents = $2, version = version + 1, updated_at = now() where id = $1
         returning id, name, department, brand, category, type, package_size, price_cents, currency, stock, view_count, version, updated_at",
    )
    .bind(id)
    .bind(change.price_cents)
    .fetch_optional(db)
    .await
}

/// All products as the bodies of their answers.
pub async fn all_as_json(db: &PgPool) -> sqlx::Result<HashMap<i64, Bytes>> {
    let all: Vec<Product> = sqlx::query_as("select * from products").fetch_all(db).await?;
    let body = |product: &Product| serde_json::to_vec(product).map(Bytes::from);
    Ok(all.iter().filter_map(|product| Some((product.id, body(product).ok()?))).collect())
}
