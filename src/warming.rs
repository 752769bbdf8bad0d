//! What is loaded into the tiers before anybody asks for it: at start (before readiness turns green), when Redis is back after an
//! outage, by `POST /cache/warm` and by `aside warm`.

use std::time::Duration;

use crate::{
    cache::{Cache, CacheMode, CacheWarmer, MemoryState, WarmingResult},
    domain::products::service::CachedProductService,
};

/// How long warming may take, after at most another second of waiting until the floors are current: readiness is never held up for more than five
/// seconds. What is not warm by then is loaded when it is asked for.
const LIMIT: Duration = Duration::from_secs(4);

/// How long warming waits until the cache may use its tiers.
const CURRENT_LIMIT: Duration = Duration::from_secs(1);
const CURRENT_POLL: Duration = Duration::from_millis(5);

/// Longest pause before a Redis that is back is warmed, so that not all instances do it at once.
const SPREAD: Duration = Duration::from_secs(1);

/// Pause between two warmings of Redis, which may come and go.
const REST: Duration = Duration::from_secs(30);

/// Warms Redis when the breaker finds that it is back, because it may have lost everything: also what L1 holds is loaded, for L1
/// fills nothing.
pub async fn warm_again(products: CachedProductService, top: u32) {
    loop {
        products.cache.l2_recovered().await;
        tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await;
        warm(&products, top, CacheMode::Reload).await;
        tokio::time::sleep(REST).await;
    }
}

/// Warms the `top` most viewed products; 0 warms nothing, and so does a Redis that is nearly full. Logs and returns what came of it.
pub async fn warm(products: &CachedProductService, top: u32, mode: CacheMode) -> WarmingResult {
    let mut warmer = CacheWarmer::new();
    if top > 0 {
        let products = products.clone();
        // What is loaded before the first poll of the ledger may never be served.
        let _ = tokio::time::timeout(CURRENT_LIMIT, until_current(&products.cache)).await;
        let full = products.cache.l2_memory_now().await == Some(MemoryState::Critical);
        warmer = match full {
            true => warmer.with("product-top", async { Err("L2 is nearly full") }),
            false => warmer.with("product-top", async move { products.warm_top(top, mode).await }),
        };
    }
    let result = products.cache.warm(warmer, LIMIT).await;
    for warmer in &result.warmers {
        if let Some(error) = &warmer.error {
            tracing::warn!(warmer = warmer.name, error, "a warmer failed");
        }
    }
    tracing::info!(warmed = result.warmed, failed = result.failed, duration_ms = result.duration_ms, "cache warmed");
    result
}

async fn until_current(cache: &Cache) {
    while !cache.is_current() {
        tokio::time::sleep(CURRENT_POLL).await;
    }
}
