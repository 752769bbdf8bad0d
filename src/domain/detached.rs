//! How writes run: in a task that a client's disconnect can't cancel, and again when Postgres broke a deadlock.
//!
//! Without the task, a client that hangs up between COMMIT and the invalidation would leave this instance's own L1 behind
//! its own write. Not promised: that the work outlives the process. What was not committed by then is rolled back.

use std::{future::Future, time::Duration};

use tracing::Instrument;

use super::error::DomainError;

/// Attempts at a write before a conflict is reported.
const ATTEMPTS: u32 = 4;

/// Runs `work` in a task of its own and waits for it; a caller that goes away doesn't stop it. After `limit` it is cut off: a
/// line to Postgres that died silently would keep its connection for ever. Whether a commit that was cut off took place is not
/// known, and the error is one that says so.
pub async fn detached<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = Result<T, DomainError>> + Send + 'static,
) -> Result<T, DomainError> {
    let cut_off = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into();
    let work = async move { tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(cut_off())) };
    tokio::spawn(work.in_current_span()).await.unwrap_or(Err(DomainError::Panicked))
}

/// Runs `work`, a whole transaction, again when it lost against another one. Locks are taken in one order everywhere, so
/// this should never be needed; that depends on every future statement, so it is not left to hope.
pub async fn retried<T>(work: impl AsyncFn() -> Result<T, DomainError>) -> Result<T, DomainError> {
    let mut attempt = 1;
    loop {
        match work().await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                // A random pause, so that two that met don't meet again.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=10 * u64::from(attempt)))).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}
