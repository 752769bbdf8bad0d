//! Runs writes in their own task, which a client's disconnect can't cancel.
//!
//! Without the task, a client that disconnects between COMMIT and the invalidation would leave
//! outdated entries in this instance's own L1. The work does not survive the end of the process:
//! Postgres rolls back a transaction that was not committed by then.

use std::{
    future::{Future, IntoFuture},
    io,
    panic::resume_unwind,
    pin::Pin,
    time::Duration,
};

use tracing::Instrument;

use crate::recorder::for_this_subject;

/// A write that begins when it is awaited. It then runs in its own task, so it ends even if the
/// caller is dropped.
#[must_use = "a write begins when it is awaited"]
pub struct PendingWrite<F> {
    limit: Duration,
    work: F,
}

impl<F> PendingWrite<F> {
    pub(crate) fn new(limit: Duration, work: F) -> Self {
        Self { limit, work }
    }
}

impl<F, T, E> IntoFuture for PendingWrite<F>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: From<sqlx::Error> + Send + 'static,
{
    type Output = Result<T, E>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run_to_completion(self.limit, self.work))
    }
}

/// Runs `work` in its own task and waits for it. A caller that goes away does not stop it. A panic
/// of the work is resumed in the caller.
///
/// After `limit` the work is aborted, because a broken connection to Postgres without a reset would
/// otherwise never be released. It is not known whether an aborted commit took place, and the error
/// reports this.
pub(crate) async fn run_to_completion<T, E>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<sqlx::Error> + Send + 'static,
{
    let cut_off = || sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into();
    let work = async move { tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(cut_off())) };
    match tokio::spawn(for_this_subject(work).in_current_span()).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime shuts down.
            Err(_) => Err(cut_off()),
        },
    }
}
