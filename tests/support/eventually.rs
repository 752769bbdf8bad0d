//! Waiting without sleeping blindly: ask until the answer is there or the deadline has passed.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long a thing may take on a busy machine before its test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `attempt` again and again until it brings `Some`; fails with `what` after [`PATIENCE`].
pub async fn eventually<T, Fut>(what: &str, attempt: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    within(PATIENCE, what, attempt).await
}

/// Like [`eventually`], with a deadline of the test's own: for promises that name a time.
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
        // The pause between two questions; what is waited for never depends on its length.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
