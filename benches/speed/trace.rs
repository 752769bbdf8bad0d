//! The hit rate of an L1 that is far smaller than the catalogue. The trace is every line of every
//! order, in their order, each as a read of its product. L1 is compared with a cache that knows how
//! often every product was read so far and evicts the least frequently used one.

use std::collections::{BTreeSet, HashMap};

use aside::domain::{DomainError, products::Product};
use aside_cache::{Cache, CacheConfig, CacheMode, DbTime, Loaded, Outcome};
use sqlx::PgPool;

/// L1's part of the catalogue's bytes, in percent.
const PERCENT: u64 = 5;

/// The result of the replay.
pub struct Trace {
    pub products: usize,
    pub reads: usize,
    pub bytes: u64,
    /// The hit rates of the two caches.
    pub aside: f64,
    pub ideal: f64,
}

/// Replays the orders of the database.
pub async fn replay(db: &PgPool) -> Trace {
    let products: Vec<Product> = sqlx::query_as("select * from products").fetch_all(db).await.expect("the products");
    let sql = "select product_id from order_items join orders on orders.id = order_id order by placed_at, order_id, product_id";
    let reads: Vec<i64> = sqlx::query_scalar(sql).fetch_all(db).await.expect("the lines");
    let products: HashMap<i64, Product> = products.into_iter().map(|product| (product.id, product)).collect();

    // A cache that has room for all products measures the size of each.
    let roomy = cache(db, 1 << 40).await;
    let mut sizes = HashMap::new();
    let mut bytes = 0;
    for (id, product) in &products {
        read(&roomy, product).await;
        let now = roomy.stats().l1.bytes;
        sizes.insert(*id, now - bytes);
        bytes = now;
    }
    roomy.shutdown().await;
    let room = bytes * PERCENT / 100;

    let small = cache(db, room).await;
    let mut hits = 0;
    for id in &reads {
        hits += usize::from(read(&small, &products[id]).await == Outcome::L1Hit);
    }
    small.shutdown().await;
    let part = |hits: usize| hits as f64 / reads.len() as f64;
    Trace {
        products: products.len(),
        reads: reads.len(),
        bytes,
        aside: part(hits),
        ideal: part(ideal(&reads, &sizes, room)),
    }
}

/// An instance's cache without Redis. It may use L1 when this returns.
pub async fn cache(db: &PgPool, l1_bytes: u64) -> Cache {
    let cache = Cache::start(CacheConfig { l1_bytes, ..CacheConfig::default() }, db.clone());
    while !cache.is_current() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    cache
}

async fn read(cache: &Cache, product: &Product) -> Outcome {
    let (key, product) = (Product::key(product.id), product.clone());
    let load = || async move {
        let loaded_at = DbTime(chrono::Utc::now().timestamp_micros());
        Ok::<_, DomainError>(Loaded { value: Some(product), tag_versions: vec![], loaded_at, valid_until: None })
    };
    cache.get_or_load(&key, CacheMode::Default, load).await.expect("a product").outcome
}

/// Hits of a cache of `room` bytes that keeps the most frequently read products so far.
fn ideal(reads: &[i64], sizes: &HashMap<i64, u64>, room: u64) -> usize {
    let (mut counts, mut kept, mut used, mut hits) = (HashMap::new(), BTreeSet::new(), 0, 0);
    for id in reads {
        let count: &mut u64 = counts.entry(*id).or_default();
        let held = kept.remove(&(*count, *id));
        *count += 1;
        let candidate = (*count, *id);
        if held {
            hits += 1;
            kept.insert(candidate);
            continue;
        }
        // The product is stored if every product that it would replace was read less often.
        let mut victims = Vec::new();
        let mut free = room - used;
        for victim in &kept {
            if free >= sizes[id] || victim.0 >= candidate.0 {
                break;
            }
            free += sizes[&victim.1];
            victims.push(*victim);
        }
        if free < sizes[id] {
            continue;
        }
        for victim in victims {
            kept.remove(&victim);
            used -= sizes[&victim.1];
        }
        kept.insert(candidate);
        used += sizes[id];
    }
    hits
}
