//! Products: the articles that customers can order.
//!
//! Begin reading in `service.rs`. The rules of input are in `rules.rs`, the keys and tags in
//! `tags.rs`, the SQL in `store.rs`, and the view counter in `views.rs`. This file holds the types
//! and their caching policies.

pub mod rules;
pub mod service;
pub mod store;
pub mod tags;
pub mod views;

#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use aside_cache::{Cacheable, Format, Policy, Residency, Sensitivity};

/// A product that is for sale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Product {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991i64, examples(1082185))]
    pub id: i64,
    #[schema(examples("Bananas, tropical fruit, 40 lb"))]
    pub name: String,
    #[schema(examples("PRODUCE"))]
    pub department: String,
    #[schema(examples("National"))]
    pub brand: String,
    #[schema(examples("TROPICAL FRUIT"))]
    pub category: String,
    #[serde(rename = "type")]
    #[schema(examples("BANANAS"))]
    pub kind: String,
    /// As printed on the package; `null` when the product is sold loose.
    #[schema(required, examples("40 LB"))]
    pub package_size: Option<String>,
    /// The price of one unit in hundredths of `currency`.
    #[schema(minimum = 0, maximum = 1_000_000_000, examples(94))]
    pub price_cents: i64,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", examples("USD"))]
    pub currency: String,
    /// How many can be ordered now.
    #[schema(minimum = 0, maximum = 1_000_000_000, examples(971))]
    pub stock: i32,
    /// Its popularity. Counted in batches and without raising `version`, so it may lag.
    #[schema(minimum = 0, examples(16981))]
    pub view_count: i64,
    /// Raised by every change other than a view.
    #[schema(minimum = 1, examples(1))]
    pub version: i64,
    pub updated_at: DateTime<Utc>,
}

/// A page of products, by id. `next_cursor` asks for the page after it, and is `null` on the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProductPage {
    pub items: Vec<Product>,
    #[schema(required, examples("UAAAAAAAEINJ"))]
    pub next_cursor: Option<String>,
}

/// The most viewed products, most viewed first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopProducts {
    pub items: Vec<Product>,
}

/// The filter of a list of products. A product must match both conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProductFilter {
    pub category: Option<String>,
    pub department: Option<String>,
}

/// A product to be created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProduct {
    #[schema(min_length = 1, max_length = 200, examples("Dragon fruit, tropical fruit, 1 ct"))]
    pub name: String,
    #[schema(min_length = 1, max_length = 80, examples("PRODUCE"))]
    pub department: String,
    #[schema(min_length = 1, max_length = 80, examples("National"))]
    pub brand: String,
    #[schema(min_length = 1, max_length = 80, examples("TROPICAL FRUIT"))]
    pub category: String,
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 80, examples("DRAGON FRUIT"))]
    pub kind: String,
    #[schema(min_length = 1, max_length = 40, examples("1 CT"))]
    pub package_size: Option<String>,
    #[schema(minimum = 0, maximum = 1_000_000_000, examples(399))]
    pub price_cents: i64,
    #[schema(pattern = "^[A-Z]{3}$", examples("USD"))]
    pub currency: String,
    #[schema(minimum = 0, maximum = 1_000_000_000, examples(100))]
    pub stock: i32,
}

/// A merge patch of a product: members that are absent stay as they are. Only `package_size` may be `null`, which clears it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(examples(json!({"price_cents": 89})))]
pub struct ProductChange {
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 200)]
    pub name: Option<String>,
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 80)]
    pub department: Option<String>,
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 80)]
    pub brand: Option<String>,
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 80)]
    pub category: Option<String>,
    #[serde(rename = "type", deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 80)]
    pub kind: Option<String>,
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 40)]
    pub package_size: Option<Option<String>>,
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 1_000_000_000)]
    pub price_cents: Option<i64>,
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[A-Z]{3}$")]
    pub currency: Option<String>,
    /// The new stock, not a difference. Send `If-Match`, or orders placed meanwhile get lost.
    #[serde(deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 1_000_000_000)]
    pub stock: Option<i32>,
}

/// Reads a member that is present. Unlike serde's own handling of an `Option`, it does not treat
/// `null` as absent.
fn present_field<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Cacheable for Product {
    /// Products change rarely and only through this service. An hour is safe, because every change
    /// invalidates them.
    const POLICY: Policy = Policy {
        name: "product",
        l1_ttl: Duration::from_secs(60),
        l2_ttl: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(30),
        max_age: Duration::from_secs(3600),
        stale_if_error: Duration::from_secs(3600),
        jitter_percent: 10,
        format: Format::Json,
        schema_version: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
        volatile: &["view_count"],
    };
}

impl Cacheable for ProductPage {
    /// The lifetime is shorter than a product's: there are many pages, and most of them are
    /// requested only once.
    const POLICY: Policy = Policy {
        name: "product-list",
        l1_ttl: Duration::from_secs(30),
        l2_ttl: Duration::from_secs(300),
        negative_ttl: Duration::from_secs(30),
        max_age: Duration::from_secs(300),
        stale_if_error: Duration::from_secs(3600),
        jitter_percent: 10,
        format: Format::MessagePack,
        schema_version: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
        volatile: &["view_count"],
    };
}

impl Cacheable for TopProducts {
    /// A change of popularity invalidates nothing, so the list may be up to five minutes late.
    const POLICY: Policy = Policy {
        name: "product-top",
        l1_ttl: Duration::from_secs(30),
        l2_ttl: Duration::from_secs(300),
        negative_ttl: Duration::from_secs(30),
        max_age: Duration::from_secs(300),
        stale_if_error: Duration::from_secs(3600),
        jitter_percent: 10,
        format: Format::MessagePack,
        schema_version: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
        // Which products are popular changes with each view.
        volatile: &["items"],
    };
}
