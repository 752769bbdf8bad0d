//! Orders: the purchases of a tenant's customers.
//!
//! Begin reading in `service.rs`. The rules of input are in `rules.rs`, the status transitions in
//! `status.rs`, and the keys and tags in `tags.rs`. The SQL is in `store.rs` (reading and
//! changing) and `placing.rs` (placing). `idempotency.rs` stores the answers that must be repeated
//! exactly. This file holds the types and their caching policies.

pub mod idempotency;
pub mod placing;
pub mod rules;
pub mod service;
pub mod status;
pub mod store;
pub mod tags;

#[cfg(test)]
mod tests;

use std::time::Duration;

use aside_cache::{Cacheable, Format, OutOfRegion, Policy, Residency, Sensitivity};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::error::DomainError;
pub use idempotency::Idempotency;
pub use status::OrderStatus;

/// An order with its items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991i64, examples(31198970033_i64))]
    pub id: i64,
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991i64, examples(749))]
    pub customer_id: i64,
    pub status: OrderStatus,
    /// By product id.
    pub items: Vec<OrderItem>,
    /// The sum over the items, in hundredths of `currency`.
    #[schema(minimum = 0, examples(320))]
    pub total_cents: i64,
    /// ISO 4217; the same for all items.
    #[schema(pattern = "^[A-Z]{3}$", examples("USD"))]
    pub currency: String,
    pub placed_at: DateTime<Utc>,
    /// Raised by every change of the status.
    #[schema(minimum = 1, examples(1))]
    pub version: i64,
    pub updated_at: DateTime<Utc>,
}

/// An item of an order, with the name and price at the time of ordering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrderItem {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991i64, examples(1082310))]
    pub product_id: i64,
    #[schema(examples("Dairy case 100% pure juice oth, refrigerated juices/drinks"))]
    pub name: String,
    #[schema(minimum = 1, maximum = 1000, examples(1))]
    pub quantity: i32,
    /// The price of one unit in hundredths of the order's currency.
    #[schema(minimum = 0, maximum = 1_000_000_000, examples(161))]
    pub unit_price_cents: i64,
}

/// A page of a customer's orders, newest first. `next_cursor` asks for the page after it, and is `null` on the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrderPage {
    pub items: Vec<Order>,
    #[schema(required, examples("TwAAAAdDmoCx"))]
    pub next_cursor: Option<String>,
}

/// The filter of a list of orders: one customer's orders, in any status or in a given one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFilter {
    pub customer_id: i64,
    pub status: Option<OrderStatus>,
}

/// An order to be placed. Names and prices come from the products, never from the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991i64, examples(749))]
    pub customer_id: i64,
    #[schema(min_items = 1, max_items = 100)]
    pub items: Vec<NewOrderItem>,
}

/// An item of an order to be placed. A product may occur only once in an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrderItem {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991i64, examples(1082185))]
    pub product_id: i64,
    #[schema(minimum = 1, maximum = 1000, examples(2))]
    pub quantity: i32,
}

/// The result of placing an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub id: i64,
    /// The version in the answer, which is the first version of the order.
    pub version: i64,
    /// The order as JSON. A replay returns the same bytes as the first answer, even if the order
    /// has changed since.
    pub body: Bytes,
    /// Whether an earlier request with the same idempotency key recorded this answer.
    pub replayed: bool,
}

impl Cacheable for Order {
    /// Absence is cached only briefly, because clients may ask for an order just before its
    /// placement is announced to them.
    const POLICY: Policy = Policy {
        name: "order",
        l1_ttl: Duration::from_secs(30),
        l2_ttl: Duration::from_secs(300),
        negative_ttl: Duration::from_secs(10),
        max_age: Duration::from_secs(300),
        stale_if_error: Duration::ZERO,
        jitter_percent: 10,
        format: Format::MessagePack,
        schema_version: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Regulated,
        residency: Residency::Regional(OutOfRegion::NoStore),
        volatile: &[],
    };
}

impl Cacheable for OrderPage {
    /// The same lifetimes as for the orders in the page.
    const POLICY: Policy = Policy {
        name: "order-list",
        l1_ttl: Duration::from_secs(30),
        l2_ttl: Duration::from_secs(300),
        negative_ttl: Duration::from_secs(10),
        max_age: Duration::from_secs(300),
        stale_if_error: Duration::ZERO,
        jitter_percent: 10,
        format: Format::MessagePack,
        schema_version: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Regulated,
        residency: Residency::Regional(OutOfRegion::NoStore),
        volatile: &[],
    };
}

impl Placed {
    /// Builds the answer to the request that placed `order`.
    fn first(order: &Order) -> Result<Self, DomainError> {
        let body = serde_json::to_vec(order).map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(Self { id: order.id, version: order.version, body: body.into(), replayed: false })
    }

    /// Decodes the order as it was placed. It returns `None` if another build recorded it in a
    /// different format.
    fn order(&self) -> Option<Order> {
        serde_json::from_slice(&self.body).ok()
    }
}
