//! `GET /products?ids=…`: many products in one answer, composed of the bytes that the tiers store.

use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{
        error::DomainError,
        products::{Product, ProductPage, service::CachedProductService},
    },
    http::{
        caching::{Representation, encode},
        conditional::EntityTag,
        directives::ReadMode,
        problem::Problem,
    },
};
use aside_cache::{Cacheable, Cached, ConsistencyToken, Outcome, TagVersion};

/// Products by their ids.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code)]
pub struct ProductBatch {
    /// The products in the order of the request, each once.
    items: Vec<Product>,
    /// The ids that name no product, in the order of the request.
    #[schema(example = json!([]))]
    unknown: Vec<i64>,
}

/// A page, or with `ids` a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
pub enum ProductPageOrBatch {
    Page(ProductPage),
    Batch(ProductBatch),
}

/// Reads the products of `ids`, which are distinct.
pub async fn read(products: &CachedProductService, ids: Vec<i64>, mode: ReadMode) -> Result<Representation, Problem> {
    let mut batch = Batch::default();
    match mode {
        ReadMode::Load(mode) => {
            for (id, read) in products.get_products(ids, mode).await? {
                batch.add(id, &read);
            }
        }
        ReadMode::OnlyIfCached => {
            for id in ids {
                match products.peek_product(id).await {
                    Err(DomainError::NotFound { .. }) => batch.unknown.push(id),
                    read => batch.add(id, &ReadMode::cached(read?)?),
                }
            }
        }
    }
    batch.answer()
}

#[derive(Default)]
struct Batch {
    items: Vec<u8>,
    unknown: Vec<i64>,
    age: Option<Duration>,
    since_read: Duration,
    ttl_ms: Option<i64>,
    outcome: Option<Outcome>,
    unkept: bool,
    token: Option<ConsistencyToken>,
    tag_versions: Vec<TagVersion>,
}

impl Batch {
    fn add(&mut self, id: i64, read: &Cached<Product>) {
        // The answer takes the highest age and the lowest freshness of its parts, and the outcome
        // of the part from the farthest tier.
        self.age = self.age.max(read.age);
        self.since_read = self.since_read.max(read.since_read);
        self.ttl_ms = Some(self.ttl_ms.map_or(read.ttl_ms, |least| least.min(read.ttl_ms)));
        if self.outcome.is_none_or(|so_far| distance(read.outcome) > distance(so_far)) {
            self.outcome = Some(read.outcome);
        }
        self.unkept |= !read.stored;
        // A read time covers all tags, so the latest token is valid for the whole answer.
        self.token = self.token.take().max(read.token.clone());
        self.tag_versions.extend_from_slice(&read.entry.tag_versions);
        if read.entry.value.is_none() {
            self.unknown.push(id);
            return;
        }
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        self.items.extend_from_slice(&read.entry.body);
    }

    fn answer(self) -> Result<Representation, Problem> {
        let unknown = encode(&self.unknown)?;
        let body = Bytes::from([&b"{\"items\":["[..], &self.items, b"],\"unknown\":", &unknown, b"}"].concat());
        Ok(Representation {
            tag: EntityTag::new(None, aside_cache::digest(&body)),
            body,
            age: self.age,
            since_read: self.since_read,
            ttl_ms: self.ttl_ms.unwrap_or_default(),
            outcome: self.outcome.unwrap_or(Outcome::L1Hit),
            stored: !self.unkept,
            token: self.token,
            pattern: Product::POLICY.name,
            tag_versions: self.tag_versions.into(),
            max_age: Product::POLICY.max_age,
        })
    }
}

fn distance(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::L1Hit => 0,
        Outcome::L2Hit => 1,
        Outcome::Collapsed => 2,
        Outcome::Stale => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;

    use super::*;
    use aside_cache::{DbTime, Entry};

    fn read(id: i64, known: bool, outcome: Outcome, since_read: u64, ttl: i64) -> Cached<Product> {
        let text = || "x".to_owned();
        let product = Product {
            id,
            name: text(),
            department: text(),
            brand: text(),
            category: text(),
            kind: text(),
            package_size: None,
            price_cents: 1,
            currency: text(),
            stock: 1,
            view_count: 1,
            version: 1,
            updated_at: DateTime::UNIX_EPOCH,
        };
        let body = serde_json::to_vec(&product).unwrap().into();
        let value = known.then_some(product);
        let entry = Entry {
            value,
            body,
            digest: 0,
            tag_versions: Arc::new([]),
            loaded_at: DbTime(0),
            snapshot_upper_bound: DbTime(0),
        };
        let age = (!outcome.is_load()).then_some(Duration::from_secs(since_read.min(2)));
        let since_read = Duration::from_secs(since_read);
        Cached { entry: Arc::new(entry), outcome, age, since_read, ttl_ms: ttl * 1000, stored: true, token: None }
    }

    #[test]
    fn a_batch_is_the_cached_bytes_in_the_order_asked_and_as_fresh_as_its_worst_part() {
        let mut batch = Batch::default();
        batch.add(7, &read(7, true, Outcome::L1Hit, 3, 57));
        batch.add(9, &read(9, false, Outcome::LoadedCold, 0, 60));
        batch.add(2, &read(2, true, Outcome::L2Hit, 20, 40));
        let answer = batch.answer().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let ids: Vec<_> = body["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, [7, 2]);
        assert_eq!(body["unknown"], serde_json::json!([9]));
        assert_eq!((answer.age, answer.since_read), (Some(Duration::from_secs(2)), Duration::from_secs(20)));
        assert_eq!((answer.ttl_ms, answer.outcome), (40_000, Outcome::LoadedCold));
    }

    #[test]
    fn a_batch_of_unknown_ids_is_an_empty_list() {
        let mut batch = Batch::default();
        batch.add(9, &read(9, false, Outcome::L1Hit, 0, 60));
        assert_eq!(batch.answer().unwrap().body, &b"{\"items\":[],\"unknown\":[9]}"[..]);
    }
}
