//! Warming: loads popular data into the tiers before it is requested. It runs at start before
//! readiness turns green, when Redis is back after an outage, on `POST /cache/warm`, and in
//! `aside warm`.

use std::time::Duration;

use aside_cache::{Cache, CacheMode, CacheWarmer, MemoryState, WarmingResult};

use crate::domain::products::service::CachedProductService;

/// The time limit of warming. Before it, warming waits up to a second until the floors are current,
/// so readiness is delayed by at most five seconds. The remaining data is loaded on request.
const LIMIT: Duration = Duration::from_secs(4);

/// How long warming waits until the cache may use its tiers.
const CURRENT_LIMIT: Duration = Duration::from_secs(1);
const CURRENT_POLL: Duration = Duration::from_millis(5);

/// The longest random pause before a recovered Redis is warmed, so that not all instances start at
/// once.
const SPREAD: Duration = Duration::from_secs(1);

/// The minimum pause between two warmings of Redis, which may fail repeatedly.
const REST: Duration = Duration::from_secs(30);

/// Warms Redis when the circuit breaker finds that it is back, because it may have lost all
/// entries. This also loads values that L1 holds, because an L1 hit fills no other tier.
pub async fn warm_again(products: CachedProductService, top: u32) {
    loop {
        products.cache.l2_recovered().await;
        tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await;
        warm(&products, top, CacheMode::Reload).await;
        tokio::time::sleep(REST).await;
    }
}

/// Warms the `top` most viewed products. It warms nothing if `top` is 0 or if Redis is nearly full.
/// It logs and returns the result.
pub async fn warm(products: &CachedProductService, top: u32, mode: CacheMode) -> WarmingResult {
    let mut warmer = CacheWarmer::new();
    if top > 0 {
        let products = products.clone();
        // An answer that was loaded before the first poll of the ledger may never be served.
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
