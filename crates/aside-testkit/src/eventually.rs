//! Waiting without blind sleeps. The test tries again until it succeeds or the deadline passes.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// The time that a condition may take on a busy machine before its test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `attempt` until it returns `Some`. Panics with `what` after [`PATIENCE`].
pub async fn eventually<T, Fut>(what: &str, attempt: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    within(PATIENCE, what, attempt).await
}

/// Like [`eventually`], with a deadline of the test's own, for promises that name a time.
pub async fn within<T, Fut>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        // The pause between two attempts. No result depends on its length.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
