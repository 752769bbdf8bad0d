//! `GET /products/batch?ids=…`: many products in one answer, composed of the bytes that the tiers store.

use aside_axum::Representation;
use aside_cache::Cached;
use axum::body::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::products::Product,
    http::{caching::encode, problem::Problem},
};

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

/// Composes the answer of reads by id, in their order.
pub fn compose(reads: &[(i64, Cached<Product>)]) -> Result<Representation, Problem> {
    let (mut items, mut unknown) = (Vec::new(), Vec::new());
    for (id, read) in reads {
        match &read.entry.value {
            Some(_) => items.push(&read.entry.body[..]),
            None => unknown.push(id),
        }
    }
    let (items, unknown) = (items.join(&b','), encode(&unknown)?);
    let body = Bytes::from([&b"{\"items\":["[..], &items, b"],\"unknown\":", &unknown, b"}"].concat());
    Ok(Representation::composed(reads.iter().map(|(_, read)| read), body))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use aside_cache::{DbTime, Entry, Outcome};
    use chrono::DateTime;

    use super::*;

    fn read(id: i64, known: bool) -> (i64, Cached<Product>) {
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
            valid_until: None,
        };
        let (entry, outcome, since_read) = (Arc::new(entry), Outcome::L1Hit, Duration::ZERO);
        (id, Cached { entry, outcome, age: None, since_read, ttl_ms: 0, valid_for: None, stored: true, token: None })
    }

    #[test]
    fn a_batch_is_the_cached_bytes_in_the_order_asked() {
        let answer = compose(&[read(7, true), read(9, false), read(2, true)]).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let ids: Vec<_> = body["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, [7, 2]);
        assert_eq!(body["unknown"], serde_json::json!([9]));
    }

    #[test]
    fn a_batch_of_unknown_ids_is_an_empty_list() {
        assert_eq!(compose(&[read(9, false)]).unwrap().body, &b"{\"items\":[],\"unknown\":[9]}"[..]);
    }
}
