//! Runs writes in their own task, which a client's disconnect can't cancel.
//!
//! Without the task, a client that disconnects between COMMIT and the invalidation would leave
//! outdated entries in this instance's own L1. The work does not survive the end of the process:
//! Postgres rolls back a transaction that was not committed by then.

use std::{future::Future, time::Duration};

use tracing::Instrument;

use super::error::DomainError;

/// Runs `work` in its own task and waits for it. A caller that goes away does not stop it. After
/// `limit` the work is aborted, because a broken connection to Postgres without a reset would
/// otherwise never be released. It is not known whether an aborted commit took place, and the error
/// reports this.
pub async fn run_to_completion<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = Result<T, DomainError>> + Send + 'static,
) -> Result<T, DomainError> {
    let cut_off = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into();
    let work = async move { tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(cut_off())) };
    tokio::spawn(work.in_current_span()).await.unwrap_or(Err(DomainError::Panicked))
}
