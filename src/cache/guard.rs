//! L2 as the cache uses it: every call has a deadline and passes the breaker. A failing L2 costs a request at most one deadline,
//! and an ill one nothing.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    breaker::{Breaker, BreakerState},
    clock::Clock,
    l2::{L2, L2Error, L2Put},
};

/// Why L2 gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum L2Failure {
    /// It failed or did not answer in time.
    Failed,
    /// It was not asked: the breaker is open.
    Skipped,
}

pub(super) struct GuardedL2 {
    backend: Arc<dyn L2>,
    deadline: Duration,
    breaker: Breaker,
}

impl GuardedL2 {
    pub(super) fn new(backend: Arc<dyn L2>, deadline: Duration, clock: Clock) -> Self {
        Self {
            backend,
            deadline,
            breaker: Breaker::new(clock),
        }
    }

    /// The values of `keys`, in their order.
    pub(super) async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, L2Failure> {
        let mut values = self.guarded(self.backend.get_many(keys)).await?;
        // A backend that answers fewer or more than it was asked must not shift values to other keys.
        if values.len() != keys.len() {
            values = vec![None; keys.len()];
        }
        Ok(values)
    }

    pub(super) async fn put_many(&self, entries: &[L2Put]) -> Result<(), L2Failure> {
        self.guarded(self.backend.put_many(entries)).await
    }

    pub(super) async fn delete_many(&self, keys: &[String]) -> Result<(), L2Failure> {
        self.guarded(self.backend.delete_many(keys)).await
    }

    pub(super) fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    async fn guarded<R>(
        &self,
        call: impl Future<Output = Result<R, L2Error>>,
    ) -> Result<R, L2Failure> {
        let permit = self.breaker.admit().ok_or(L2Failure::Skipped)?;
        match tokio::time::timeout(self.deadline, call).await {
            Ok(Ok(answer)) => {
                permit.succeeded();
                Ok(answer)
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "L2 failed");
                permit.failed();
                Err(L2Failure::Failed)
            }
            Err(_elapsed) => {
                tracing::debug!("L2 did not answer within its deadline");
                permit.failed();
                Err(L2Failure::Failed)
            }
        }
    }
}
