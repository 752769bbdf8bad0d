//! L1 with a thousand to a million entries: the time of a hit, and the memory of an entry beyond
//! its key and its value.

use std::{fs, mem::size_of, time::Instant};

use aside::domain::{DomainError, products::Product};
use aside_cache::{Cache, CacheMode, DbTime, Loaded, TagVersion};
use chrono::Utc;
use futures_util::FutureExt;
use sqlx::PgPool;

use crate::{numbers::Spread, trace};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// The figures of one size.
pub struct Scale {
    pub entries: usize,
    /// Nanoseconds of a hit of a random entry.
    pub nanos: Spread,
    /// Ratios to the smallest size.
    pub ratios: Spread,
    /// Bytes of an entry beyond its key and its value. Only the largest size has this figure,
    /// because memory that the allocator had free before makes no difference there.
    pub overhead: Option<f64>,
}

/// Measures all sizes in turn, `rounds` times.
pub async fn measure(db: &PgPool, rounds: usize, hits: usize) -> Vec<Scale> {
    let products: Vec<Product> = sqlx::query_as("select * from products").fetch_all(db).await.expect("the products");
    let mut caches = Vec::new();
    for entries in SIZES {
        let cache = trace::cache(db, 64 << 30).await;
        caches.push((entries, fill(&cache, &products, entries).await, cache, Vec::new()));
    }
    for _ in 0..rounds {
        for (entries, _, cache, nanos) in &mut caches {
            nanos.push(hit(cache, *entries, hits));
        }
    }
    let base = caches[0].3.clone();
    let result = caches.iter().map(|(entries, overhead, _, nanos)| Scale {
        entries: *entries,
        nanos: Spread::of(nanos),
        ratios: Spread::of_ratios(nanos, &base),
        overhead: (*entries == SIZES[SIZES.len() - 1]).then_some(*overhead),
    });
    let result = result.collect();
    for (.., cache, _) in caches {
        cache.shutdown().await;
    }
    result
}

/// Fills a cache. Returns the growth of the process for an entry, beyond its key and its value.
async fn fill(cache: &Cache, products: &[Product], entries: usize) -> f64 {
    let (before, mut own) = (resident(), 0);
    for ids in (0..entries).collect::<Vec<_>>().chunks(10_000) {
        let chunk = ids.iter().map(|id| {
            let product = Product { id: *id as i64, ..products[id % products.len()].clone() };
            own += size(&product);
            let tag_versions = vec![TagVersion { tag: Product::tag_of(product.id), version: 1 }];
            let loaded_at = DbTime(Utc::now().timestamp_micros());
            (Product::key(product.id), Loaded { value: Some(product), tag_versions, loaded_at, valid_until: None })
        });
        cache.put_many(chunk.collect()).expect("they are kept");
        cache.stats();
    }
    (resident() - before - own as f64) / entries as f64
}

/// Bytes of a key and a value: the key's text, the product with its texts, the body of its
/// response.
fn size(product: &Product) -> usize {
    let texts =
        [&product.name, &product.department, &product.brand, &product.category, &product.kind, &product.currency];
    let texts: usize = texts.into_iter().chain(&product.package_size).map(String::len).sum();
    let body = serde_json::to_vec(product).expect("JSON").len();
    Product::key(product.id).as_str().len() + size_of::<Product>() + texts + body
}

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<f64> = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(f64::NAN, |pages| pages * 4_096.0)
}

/// Nanoseconds of a hit, as the service calls it.
fn hit(cache: &Cache, entries: usize, hits: usize) -> f64 {
    let begun = Instant::now();
    for _ in 0..hits {
        let key = Product::key(fastrand::i64(0..entries as i64));
        let load = || async { Err::<Loaded<Product>, _>(DomainError::NotFound { kind: "product", id: 0 }) };
        let read = cache.get_or_load(&key, CacheMode::Default, load).now_or_never();
        assert!(read.is_some_and(|read| read.is_ok()), "{} is a hit", key.as_str());
    }
    begun.elapsed().as_nanos() as f64 / hits as f64
}
