//! What is loaded into the tiers before anybody asks for it. Called at start (before readiness turns green), by
//! `POST /cache/warm` and by `aside warm`.

use std::time::Duration;

use crate::{
    cache::{CacheWarmer, WarmingResult},
    domain::products::service::CachedProductService,
};

/// How long warming may take; what is not warm by then is loaded when it is asked for.
pub const LIMIT: Duration = Duration::from_secs(5);

/// Warms the `top` most viewed products; 0 warms nothing. Logs and returns what came of it.
pub async fn warm(products: &CachedProductService, top: u32) -> WarmingResult {
    let mut warmer = CacheWarmer::new();
    if top > 0 {
        let products = products.clone();
        warmer = warmer.with("product-top", async move { products.warm_top(top).await });
    }
    let result = warmer.run(LIMIT).await;
    tracing::info!(warmed = result.warmed, failed = result.failed, duration_ms = result.duration_ms, "cache warmed");
    result
}
