//! L2 as the cache uses it: every call has a deadline and passes the breaker. A failing L2 costs a request at most one deadline,
//! and an ill one nothing: probes are made beside the requests.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::timeout};

use super::{
    breaker::{Admission, Breaker, BreakerState, Permit},
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
    breaker: Arc<Breaker>,
    recovered: Arc<Notify>,
}

impl GuardedL2 {
    pub(super) fn new(backend: Arc<dyn L2>, deadline: Duration, clock: Clock) -> Self {
        Self { backend, deadline, breaker: Arc::new(Breaker::new(clock)), recovered: Arc::default() }
    }

    pub(super) async fn fetch(&self, keys: &[Fetch], token: &str) -> Result<Vec<Fetched>, L2Failure> {
        let answers = self.guarded(self.backend.fetch(keys, token, LEASE)).await?;
        // A backend that answers fewer or more than it was asked must not shift values to other keys.
        if answers.len() == keys.len() { Ok(answers) } else { Err(L2Failure::Failed) }
    }

    pub(super) async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Failure> {
        self.guarded(self.backend.fill(fills, token)).await
    }

    /// Gives leases back, also those of a fetch that was not answered: an L2 that hangs reads both in this order once it goes on.
    /// So this passes the breaker by, and whether it is done is not asked.
    pub(super) async fn release(&self, releases: &[Fill], token: &str) {
        let _ = timeout(self.deadline, self.backend.fill(releases, token)).await;
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

    /// Returns when L2 is well again after it was ill.
    pub(super) async fn recovered(&self) {
        self.recovered.notified().await;
    }

    async fn guarded<R>(&self, call: impl Future<Output = Result<R, L2Error>>) -> Result<R, L2Failure> {
        match self.breaker.admit() {
            Admission::Call(permit) => reported(permit, timeout(self.deadline, call).await.ok()),
            Admission::Probe(permit) => {
                self.probe(permit);
                Err(L2Failure::Skipped)
            }
            Admission::Skip => Err(L2Failure::Skipped),
        }
    }

    /// Finds out whether L2 is well again.
    fn probe(&self, permit: Permit) {
        let (backend, deadline, recovered) = (Arc::clone(&self.backend), self.deadline, Arc::clone(&self.recovered));
        tokio::spawn(async move {
            if reported(permit, timeout(deadline, backend.ping()).await.ok()).is_ok() {
                recovered.notify_one();
            }
        });
    }
}

/// The result of a call, which the breaker is told; `None`: there was none within the deadline.
fn reported<R>(permit: Permit, answer: Option<Result<R, L2Error>>) -> Result<R, L2Failure> {
    match answer {
        Some(Ok(answer)) => {
            permit.succeeded();
            return Ok(answer);
        }
        Some(Err(error)) => tracing::debug!(%error, "L2 failed"),
        None => tracing::debug!("L2 did not answer within its deadline"),
    }
    permit.failed();
    Err(L2Failure::Failed)
}
