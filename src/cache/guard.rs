//! L2 as the cache uses it: every call has a deadline and passes the breaker. A failing L2 costs a request at most one deadline,
//! and an unhealthy one nothing: probes are made beside the requests.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::Instrument;

use super::{
    breaker::{Breaker, BreakerState, CallDecision},
    clock::Clock,
    l2::{Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error, NodeMemory},
    spans,
};

/// How long one instance may keep the others waiting for its load.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// Waits for loads of other instances that bring nothing, in a row, until reads don't wait for so long any more.
const VAIN_WAITS: u32 = 3;

/// Pause before listening for hints is tried again: from this up to twice as long, so that instances don't come together.
const RESUBSCRIBE_BACKOFF: Duration = Duration::from_millis(500);

/// How long a probe is waited for: longer than a backend waits for an answer on a line before it makes another one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Waits in a row for loads of other instances that brought nothing.
    vain_waits: AtomicU32,
    recovered: Arc<Notify>,
    /// The key that probes ask for.
    probe_key: String,
}

impl GuardedL2 {
    pub(super) fn new(backend: Arc<dyn L2>, deadline: Duration, clock: Clock, namespace: &str) -> Self {
        let (breaker, recovered) = (Arc::new(Breaker::new(clock)), Arc::default());
        let vain_waits = AtomicU32::new(0);
        Self { backend, deadline, breaker, vain_waits, recovered, probe_key: format!("{namespace}:probe") }
    }

    /// How long to wait for a load that another instance is said to be doing. Once several have brought nothing it is no longer believed
    /// that somebody loads, and a read waits no longer than for any other answer of L2.
    pub(super) fn lease_wait(&self) -> Duration {
        if self.vain_waits.load(Ordering::Relaxed) < VAIN_WAITS { LEASE } else { self.deadline }
    }

    /// Takes note of how such a wait ended.
    pub(super) fn waited(&self, in_vain: bool) {
        let count = |waits: u32| if in_vain { waits.saturating_add(1) } else { 0 };
        let _ = self.vain_waits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waits| Some(count(waits)));
    }

    pub(super) async fn fetch(&self, keys: &[Fetch], token: &str) -> Result<Vec<Fetched>, L2Failure> {
        let answers = self.guarded("fetch", self.backend.fetch(keys, token, LEASE)).await?;
        // A backend that answers fewer or more than it was asked must not shift values to other keys.
        if answers.len() == keys.len() { Ok(answers) } else { Err(L2Failure::Failed) }
    }

    pub(super) async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Failure> {
        self.guarded("fill", self.backend.fill(fills, token)).await
    }

    /// Gives leases back, also those of a fetch that was not answered: an L2 that hangs reads both in this order once it goes on.
    /// So this passes the breaker by, and whether it is done is not asked.
    pub(super) async fn release(&self, releases: &[Fill], token: &str) {
        let _ = timeout(self.deadline, self.backend.fill(releases, token)).await;
    }

    pub(super) async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Failure> {
        self.guarded("invalidate", self.backend.invalidate(keys)).await
    }

    /// Whether L2 answers.
    pub(super) async fn ping(&self) -> Result<(), L2Failure> {
        self.guarded("ping", self.backend.ping()).await
    }

    /// The memory of its nodes. Beside the breaker: a store that may not say how full it is works all the same.
    pub(super) async fn memory(&self) -> Result<Vec<NodeMemory>, L2Failure> {
        into_result(timeout(self.deadline, self.backend.memory()).await.ok())
    }

    /// Tells the other instances to poll the ledger at once.
    pub(super) async fn hint(&self, channel: &str) -> Result<(), L2Failure> {
        self.guarded("hint", self.backend.hint(channel)).await
    }

    /// Calls `heard` for every hint, for ever; a broken line is made anew.
    pub(super) async fn listen(&self, channel: &str, heard: impl Fn() + Send + Sync) {
        loop {
            if let Err(error) = self.backend.listen(channel, &heard).await {
                tracing::debug!(%error, "no hints");
            }
            tokio::time::sleep(RESUBSCRIBE_BACKOFF.mul_f64(1.0 + fastrand::f64())).await;
        }
    }

    pub(super) fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Returns when L2 is healthy again after it was unhealthy.
    pub(super) async fn recovered(&self) {
        self.recovered.notified().await;
    }

    async fn guarded<R>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<R, L2Error>>,
    ) -> Result<R, L2Failure> {
        match self.breaker.try_acquire() {
            CallDecision::Call => {
                let answer = timeout(self.deadline, call).instrument(spans::l2(self.backend.name(), operation)).await;
                let answer = answer.unwrap_or_else(|_| Err(L2Error("it does not answer in time".into())));
                self.breaker.record_call(answer.as_ref().map(drop).map_err(|error| error.0.as_str()));
                into_result(Some(answer))
            }
            CallDecision::Probe => {
                self.probe();
                Err(L2Failure::Skipped)
            }
            CallDecision::Skip => Err(L2Failure::Skipped),
        }
    }

    /// Finds out whether L2 is healthy again, by what it is used for: it could answer a ping and nothing else. It is healthy when it
    /// answers within the deadline; it is waited for longer, until the backend itself gives up a line that is dead.
    fn probe(&self) {
        let (backend, breaker, recovered) =
            (Arc::clone(&self.backend), Arc::clone(&self.breaker), Arc::clone(&self.recovered));
        let (deadline, fetch) = (self.deadline, Fetch { key: self.probe_key.clone(), min_version: 0 });
        tokio::spawn(async move {
            let begun = Instant::now();
            let answer = timeout(PROBE_TIMEOUT, backend.fetch(&[fetch], "probe", Duration::from_millis(1))).await;
            let ok = into_result(answer.ok()).is_ok() && begun.elapsed() <= deadline;
            breaker.record_probe(ok);
            if ok {
                recovered.notify_one();
            }
        });
    }
}

/// An answer of the backend; `None`: there was none in time.
fn into_result<R>(answer: Option<Result<R, L2Error>>) -> Result<R, L2Failure> {
    match answer {
        Some(Ok(answer)) => return Ok(answer),
        Some(Err(error)) => tracing::debug!(%error, "L2 failed"),
        None => tracing::debug!("L2 did not answer in time"),
    }
    Err(L2Failure::Failed)
}
