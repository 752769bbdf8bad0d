//! L2 behind a deadline and the circuit breaker. A failing L2 costs a request at most one deadline.
//! An L2 that is down costs nothing, because probes run beside the requests.

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

use crate::{
    clock::Clock,
    observe::l2_metrics::L2Metrics,
    observe::spans,
    tiers::breaker::{Breaker, BreakerState, CallDecision},
    tiers::l2::{Fetch, Fetched, Fill, Invalidation, L2, L2Error, NodeMemory},
};

/// The longest time for which one instance may make the others wait for its load.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// The number of waits in a row without a result, after which reads wait less for loads of other
/// instances.
const VAIN_WAITS: u32 = 3;

/// The shortest pause before the cache subscribes to hints again. The pause is up to twice as long,
/// so that instances don't subscribe together.
const RESUBSCRIBE_BACKOFF: Duration = Duration::from_millis(500);

/// The time limit of a probe. It is longer than the time after which a backend replaces a
/// connection that does not answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The reason why L2 gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L2Failure {
    /// L2 failed or did not answer in time.
    Failed,
    /// L2 was not called, because the breaker is open.
    Skipped,
}

/// L2 as reads and writes use it. It counts their calls.
pub(crate) struct GuardedL2 {
    backend: Arc<dyn L2>,
    metrics: Arc<L2Metrics>,
    deadline: Duration,
    breaker: Arc<Breaker>,
    /// The number of waits in a row for loads of other instances that had no result.
    vain_waits: AtomicU32,
    recovered: Arc<Notify>,
    /// The key that probes fetch.
    probe_key: String,
}

impl GuardedL2 {
    pub(crate) fn new(
        backend: Arc<dyn L2>,
        metrics: Arc<L2Metrics>,
        deadline: Duration,
        clock: Clock,
        namespace: &str,
    ) -> Self {
        let (breaker, recovered) = (Arc::new(Breaker::new(clock)), Arc::default());
        let vain_waits = AtomicU32::new(0);
        Self { backend, metrics, deadline, breaker, vain_waits, recovered, probe_key: format!("{namespace}:probe") }
    }

    /// The time to wait for a load that another instance has leased. After several waits without a
    /// result, the instance assumes that none of the others loads. A read then waits only as long
    /// as for any other answer of L2.
    pub(crate) fn lease_wait(&self) -> Duration {
        if self.vain_waits.load(Ordering::Relaxed) < VAIN_WAITS { LEASE } else { self.deadline }
    }

    /// Records whether such a wait had a result.
    pub(crate) fn waited(&self, in_vain: bool) {
        let count = |waits: u32| if in_vain { waits.saturating_add(1) } else { 0 };
        let _ = self.vain_waits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waits| Some(count(waits)));
    }

    pub(crate) async fn fetch(&self, keys: &[Fetch], token: &str) -> Result<Vec<Fetched>, L2Failure> {
        let answers = self.guarded("fetch", self.backend.fetch(keys, token, LEASE)).await;
        // A backend that returns more or fewer answers than keys must not assign values to other
        // keys.
        let answers =
            answers.and_then(|answers| if answers.len() == keys.len() { Ok(answers) } else { Err(L2Failure::Failed) });
        self.counted("fetch", answers)
    }

    pub(crate) async fn fill(&self, fills: &[Fill], token: &str) -> Result<(), L2Failure> {
        let filled = self.counted("fill", self.guarded("fill", self.backend.fill(fills, token)).await)?;
        filled.iter().for_each(|filled| self.metrics.filled(filled.as_str()));
        Ok(())
    }

    /// Gives leases back, including those of a fetch without an answer. An L2 that hangs reads both
    /// calls in this order once it continues. This call therefore skips the breaker, and its result
    /// is ignored.
    pub(crate) async fn release(&self, releases: &[Fill], token: &str) {
        let _ = timeout(self.deadline, self.backend.fill(releases, token)).await;
    }

    pub(crate) async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Failure> {
        self.counted("invalidate", self.guarded("invalidate", self.backend.invalidate(keys)).await)
    }

    /// Whether L2 answers.
    pub(crate) async fn ping(&self) -> Result<(), L2Failure> {
        self.guarded("ping", self.backend.ping()).await
    }

    /// The memory of L2's nodes. It does not use the breaker, because a store may work without the
    /// right to report its memory.
    pub(crate) async fn memory(&self) -> Result<Vec<NodeMemory>, L2Failure> {
        into_result(timeout(self.deadline, self.backend.memory()).await.ok())
    }

    /// Asks the other instances to poll the ledger at once.
    pub(crate) async fn hint(&self, channel: &str) -> Result<(), L2Failure> {
        self.counted("hint", self.guarded("hint", self.backend.hint(channel)).await)
    }

    /// Calls `heard` for every hint, without end. It subscribes again when the connection breaks.
    pub(crate) async fn listen(&self, channel: &str, heard: impl Fn() + Send + Sync) {
        loop {
            if let Err(error) = self.backend.listen(channel, &heard).await {
                tracing::debug!(%error, "no hints");
            }
            tokio::time::sleep(RESUBSCRIBE_BACKOFF.mul_f64(1.0 + fastrand::f64())).await;
        }
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Returns when L2 answers again after it was down.
    pub(crate) async fn recovered(&self) {
        self.recovered.notified().await;
    }

    fn counted<R>(&self, operation: &'static str, answer: Result<R, L2Failure>) -> Result<R, L2Failure> {
        let result = match answer {
            Ok(_) => "ok",
            Err(L2Failure::Failed) => "failed",
            Err(L2Failure::Skipped) => "skipped",
        };
        self.metrics.call(operation, result);
        answer
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

    /// Probes whether L2 works again. The probe is a fetch, because L2 could answer a ping and fail
    /// everything else. L2 is healthy if it answers within the deadline. The probe waits longer
    /// than that, until the backend itself closes a connection that does not answer.
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

/// Converts an answer of the backend. `None` means that there was none in time.
fn into_result<R>(answer: Option<Result<R, L2Error>>) -> Result<R, L2Failure> {
    match answer {
        Some(Ok(answer)) => return Ok(answer),
        Some(Err(error)) => tracing::debug!(%error, "L2 failed"),
        None => tracing::debug!("L2 did not answer in time"),
    }
    Err(L2Failure::Failed)
}
