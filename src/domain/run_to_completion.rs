//! Runs writes in a task of their own, which a client's disconnect can't cancel.
//!
//! Without the task, a client that hangs up between COMMIT and the invalidation would leave this instance's own L1 behind
//! its own write. Not promised: that the work outlives the process. What was not committed by then is rolled back.

use std::{future::Future, time::Duration};

use tracing::Instrument;

use super::error::DomainError;

/// Runs `work` in a task of its own and waits for it; a caller that goes away doesn't stop it. After `limit` it is cut off: a
/// line to Postgres that died silently would keep its connection for ever. Whether a commit that was cut off took place is not
/// known, and the error is one that says so.
pub async fn run_to_completion<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = Result<T, DomainError>> + Send + 'static,
) -> Result<T, DomainError> {
    let cut_off = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into();
    let work = async move { tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(cut_off())) };
    tokio::spawn(work.in_current_span()).await.unwrap_or(Err(DomainError::Panicked))
}
