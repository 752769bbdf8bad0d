//! L2 as the cache uses it: every call has a deadline and passes the breaker. A failing L2 costs a request at most one deadline,
//! and an ill one nothing.

use std::{future::Future, sync::Arc, time::Duration};

use super::{
    breaker::{Breaker, BreakerState},
    clock::Clock,
    l2::{Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error},
};

/// How long one instance may keep the others waiting for its load.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// Pause before listening for hints is tried again: from this up to twice as long, so that instances don't come together.
const RELISTEN: Duration = Duration::from_millis(500);

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
        Self { backend, deadline, breaker: Breaker::new(clock) }
    }

    pub(super) async fn fetch(&self, keys: &[Fetch], token: &str) -> Result<Vec<Fetched>, L2Failure> {
        let answers = self.guarded(self.backend.fetch(keys, token, LEASE)).await?;
        // A backend that answers fewer or more than it was asked must not shift values to other keys.
        if answers.len() == keys.len() { Ok(answers) } else { Err(L2Failure::Failed) }
    }

    pub(super) async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Failure> {
        self.guarded(self.backend.fill(fills, token)).await
    }

    pub(super) async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Failure> {
        self.guarded(self.backend.invalidate(keys)).await
    }

    /// Whether L2 answers.
    pub(super) async fn ping(&self) -> Result<(), L2Failure> {
        self.guarded(self.backend.ping()).await
    }

    /// Tells the other instances to look at the ledger at once.
    pub(super) async fn hint(&self, channel: &str) -> Result<(), L2Failure> {
        self.guarded(self.backend.hint(channel)).await
    }

    /// Calls `heard` for every hint, for ever; a broken line is made anew.
    pub(super) async fn listen(&self, channel: &str, heard: impl Fn() + Send + Sync) {
        loop {
            if let Err(error) = self.backend.listen(channel, &heard).await {
                tracing::debug!(%error, "no hints");
            }
            tokio::time::sleep(RELISTEN.mul_f64(1.0 + fastrand::f64())).await;
        }
    }

    pub(super) fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    async fn guarded<R>(&self, call: impl Future<Output = Result<R, L2Error>>) -> Result<R, L2Failure> {
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
