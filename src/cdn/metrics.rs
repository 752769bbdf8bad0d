//! The purger's metrics, exposed on `GET /metrics` if purging is configured.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

const DELAYS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// The counters of one instance's purger. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct PurgeMetrics {
    purges: Family<Outcome, Counter>,
    tags: Counter,
    delay: Histogram,
    now: Arc<Mutex<Now>>,
}

#[derive(Debug, Default)]
struct Now {
    active: bool,
    waiting_since: Option<Instant>,
}

impl Default for PurgeMetrics {
    fn default() -> Self {
        let purges = Family::<Outcome, Counter>::default();
        // The counters exist from the start, as zeros.
        for result in ["ok", "failed"] {
            drop(purges.get_or_create(&Outcome { result }));
        }
        Self { purges, tags: Counter::default(), delay: Histogram::new(DELAYS), now: Arc::default() }
    }
}

impl PurgeMetrics {
    /// Registers the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cdn_purges", "Requests to purge", self.purges.clone());
        registry.register("cdn_purged_tags", "Tags in purges that succeeded", self.tags.clone());
        registry.register(
            "cdn_purge_delay_seconds",
            "Time from a commit to its first purge, at most",
            self.delay.clone(),
        );
        registry.register_collector(Box::new(PurgeCollector(Arc::clone(&self.now))));
    }

    pub(super) fn purged(&self, tags: u64) {
        self.purges.get_or_create(&Outcome { result: "ok" }).inc();
        self.tags.inc_by(tags);
    }

    pub(super) fn failed(&self) {
        self.purges.get_or_create(&Outcome { result: "failed" }).inc();
    }

    pub(super) fn delayed(&self, since: Instant) {
        self.delay.observe(since.elapsed().as_secs_f64());
    }

    pub(super) fn waits(&self, since: Option<Instant>) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).waiting_since = since;
    }

    /// Reports this instance as the active purger until the guard is dropped.
    pub(super) fn active(&self) -> Active {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).active = true;
        Active(Arc::clone(&self.now))
    }
}

pub(super) struct Active(Arc<Mutex<Now>>);

impl Drop for Active {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Now::default();
    }
}

#[derive(Debug)]
struct PurgeCollector(Arc<Mutex<Now>>);

impl Collector for PurgeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = now.waiting_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let values = [
            ("cdn_purger_active", "1 on the instance that purges", f64::from(u8::from(now.active))),
            ("cdn_purge_lag_seconds", "How long the oldest change that was not purged yet has waited", lag),
        ];
        for (name, help, value) in values {
            let gauge = ConstGauge::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(descriptor)?;
        }
        Ok(())
    }
}
