//! All metrics of a cache at one moment, with names, help texts and labels. The snapshot depends on
//! no metrics library. An exporter is a loop over it, such as the one of the feature `prometheus`.
//! Names and units follow the conventions of Prometheus, and label values come from closed sets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    Cache,
    admission::Concurrency,
    cache::Inner,
    observe::counters::{Counters, Family, Histogram},
    tiers::breaker::BreakerState,
    tiers::pressure::MemoryUse,
};

/// One metric with all its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The name without a suffix for the unit or the kind, such as `cache_loads`.
    pub name: &'static str,
    /// The meaning, in one sentence.
    pub help: &'static str,
    /// Whether the values are durations in seconds. By convention such a name gets the suffix
    /// `_seconds`.
    pub in_seconds: bool,
    /// Whether values count events, measure a state, or are distributions.
    pub kind: MetricKind,
    /// The series, each with its own labels. There may be none.
    pub series: Vec<Series>,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A count of events, which only grows.
    Counter,
    /// A value that grows and shrinks.
    Gauge,
    /// A distribution of durations.
    Histogram,
}

/// One series of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Names and values of the labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value at the moment of the snapshot.
    pub value: MetricValue,
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Of a [`MetricKind::Counter`].
    Count(u64),
    /// Of a [`MetricKind::Gauge`].
    Gauge(f64),
    /// Of a [`MetricKind::Histogram`].
    Distribution(Distribution),
}

/// The counts of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Each bucket's upper bound in seconds, and the number of values in this bucket alone. The
    /// last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all values in seconds.
    pub sum_seconds: f64,
}

impl Distribution {
    /// `counts` has one more value than `bounds`.
    pub(crate) fn new(
        bounds: impl Iterator<Item = Duration>,
        counts: impl Iterator<Item = u64>,
        sum_nanos: u64,
    ) -> Self {
        let bounds = bounds.map(|bound| bound.as_nanos() as f64 / 1e9).chain([f64::INFINITY]);
        Self { buckets: bounds.zip(counts).collect(), sum_seconds: sum_nanos as f64 / 1e9 }
    }

    /// The number of all values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl Metric {
    fn new(kind: MetricKind, name: &'static str, help: &'static str, series: Vec<Series>) -> Self {
        Self { name, help, in_seconds: false, kind, series }
    }

    pub(crate) fn counter(name: &'static str, help: &'static str, series: Vec<Series>) -> Self {
        Self::new(MetricKind::Counter, name, help, series)
    }

    pub(crate) fn gauge(name: &'static str, help: &'static str, series: Vec<Series>) -> Self {
        Self::new(MetricKind::Gauge, name, help, series)
    }

    pub(crate) fn histogram(name: &'static str, help: &'static str, series: Vec<Series>) -> Self {
        Self { in_seconds: true, ..Self::new(MetricKind::Histogram, name, help, series) }
    }
}

impl Series {
    pub(crate) fn count(labels: Labels, count: u64) -> Self {
        Self { labels, value: MetricValue::Count(count) }
    }

    pub(crate) fn gauge(labels: Labels, value: f64) -> Self {
        Self { labels, value: MetricValue::Gauge(value) }
    }

    pub(crate) fn distribution(labels: Labels, distribution: Distribution) -> Self {
        Self { labels, value: MetricValue::Distribution(distribution) }
    }

    /// The series of counters.
    pub(crate) fn counts<L: Ord>(counters: &Counters<L>, labels: impl Fn(&L) -> Labels) -> Vec<Self> {
        counters.map(|label, counter: &AtomicU64| Self::count(labels(label), counter.load(Ordering::Relaxed)))
    }

    /// The series of histograms.
    pub(crate) fn distributions<L: Ord>(histograms: &Family<L, Histogram>, labels: impl Fn(&L) -> Labels) -> Vec<Self> {
        histograms.map(|label, histogram| Self::distribution(labels(label), histogram.distribution()))
    }
}

/// Names and values of labels.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// The label of a key pattern.
pub(crate) fn of_pattern(pattern: impl Into<String>) -> Labels {
    vec![("pattern", pattern.into())]
}

impl Cache {
    /// All metrics of this cache now, for an exporter of any kind. It takes no query and less than
    /// a millisecond. The feature `prometheus` has an exporter.
    ///
    /// ```
    /// # use aside_cache::{Cache, CacheConfig, MetricValue};
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let pool = sqlx::PgPool::connect_lazy("postgres://127.0.0.1:1/none").unwrap();
    /// let cache = Cache::start(CacheConfig::default(), pool);
    /// for metric in cache.metrics() {
    ///     for series in metric.series {
    ///         if let MetricValue::Gauge(value) = series.value {
    ///             println!("{} {:?} {value}", metric.name, series.labels);
    ///         }
    ///     }
    /// }
    /// # });
    /// ```
    pub fn metrics(&self) -> Vec<Metric> {
        self.inner.snapshot()
    }
}

impl Inner {
    /// All metrics now.
    pub(crate) fn snapshot(&self) -> Vec<Metric> {
        let mut metrics = self.metrics.snapshot();
        metrics.extend(self.monitor.snapshot());
        metrics.extend(self.comparison.snapshot());
        metrics.push(self.replica.snapshot());
        metrics.extend(self.sizes());
        metrics.extend(memory(&self.pressure.seen()));
        metrics.extend(self.l1_by_pattern());
        metrics.extend(self.admission_by_pattern());
        metrics
    }

    /// Sizes and states without labels.
    fn sizes(&self) -> impl Iterator<Item = Metric> + use<> {
        let (bytes, entries) = self.l1.size();
        let poll_age = self.freshness.since_poll().map_or(f64::INFINITY, |age| age.as_secs_f64());
        let open = self.l2.as_ref().is_some_and(|l2| l2.breaker() != BreakerState::Closed);
        let memory_known = self.l2.is_none() || self.pressure.l2().is_some();
        let values = [
            ("cache_l2_memory_known", "0 while L2 doesn't say how full it is", f64::from(memory_known)),
            ("cache_l1_bytes", "Bytes held in L1", bytes as f64),
            ("cache_l1_capacity_bytes", "Capacity of L1", self.l1_bytes as f64),
            ("cache_l1_entries", "Entries held in L1", entries as f64),
            ("cache_floors", "Floors held", self.freshness.floors() as f64),
            ("cache_poll_age_seconds", "Time since the ledger was last polled", poll_age),
            ("cache_is_current", "1 while tiers may be used", f64::from(self.freshness.is_current())),
            ("cache_l2_breaker_open", "1 while L2 is skipped or probed", f64::from(open)),
        ];
        values.into_iter().map(|(name, help, value)| Metric::gauge(name, help, vec![Series::gauge(Vec::new(), value)]))
    }

    /// The bytes and evictions of each key pattern in L1.
    fn l1_by_pattern(&self) -> [Metric; 2] {
        let usage = self.l1.usage();
        let bytes = usage.iter().map(|(pattern, usage)| Series::gauge(of_pattern(*pattern), usage.bytes as f64));
        let evicted = usage.iter().map(|(pattern, usage)| Series::count(of_pattern(*pattern), usage.evicted));
        [
            Metric::gauge("cache_l1_pattern_bytes", "Bytes held in L1 by key pattern", bytes.collect()),
            Metric::counter(
                "cache_l1_evictions",
                "Entries that L1 gave up for want of room, by key pattern",
                evicted.collect(),
            ),
        ]
    }

    /// The work that uses the database, the work that waits, and the number of permits.
    fn admission_by_pattern(&self) -> [Metric; 3] {
        let usages = self.admission.usages(&self.policies);
        let in_flight = usages.iter().map(|(pattern, usage, _)| Series::gauge(of_pattern(*pattern), *usage as f64));
        let waiting = usages.iter().map(|(pattern, _, usage)| Series::gauge(of_pattern(*pattern), *usage as f64));
        let Concurrency { loads, writes, total } = self.admission.most();
        let permits = [("loads", loads), ("writes", writes), ("total", total)]
            .map(|(kind, most)| Series::gauge(vec![("kind", kind.to_owned())], most as f64));
        [
            Metric::gauge(
                "cache_admission_in_flight",
                "Loads and writes that use a connection to Postgres now, by key pattern",
                in_flight.collect(),
            ),
            Metric::gauge(
                "cache_admission_waiting",
                "Loads and writes that wait for their turn to use Postgres, by key pattern",
                waiting.collect(),
            ),
            Metric::gauge(
                "cache_admission_permits",
                "Loads and writes that may use Postgres at a time; more wait",
                permits.into(),
            ),
        ]
    }
}

/// The use of each memory, and the report of each node of L2.
fn memory(seen: &[MemoryUse]) -> Vec<Metric> {
    type Value = fn(&MemoryUse) -> Option<f64>;
    let gauges: [(&str, &str, Value); 5] = [
        ("cache_memory_used_bytes", "Memory in use by tier and node", |memory| Some(memory.used_bytes as f64)),
        ("cache_memory_limit_bytes", "Memory that may be used; 0: no limit is set", |memory| {
            Some(memory.limit_bytes.unwrap_or_default() as f64)
        }),
        ("cache_memory_state", "0 normal, 1 warning (from 70 %), 2 critical (from 85 %)", |memory| {
            Some(f64::from(memory.state as u8))
        }),
        ("cache_memory_refuses_when_full", "1 when a node refuses writes instead of evicting", |memory| {
            Some(f64::from(!memory.reported.as_ref()?.evicts()))
        }),
        ("cache_memory_fragmentation", "Memory that the system has given to a node, for each byte in use", |memory| {
            Some(memory.reported.as_ref()?.fragmentation)
        }),
    ];
    let labels = |of: &MemoryUse| vec![("tier", of.memory.tier.to_owned()), ("node", of.memory.node.clone())];
    let gauge = |(name, help, value): (_, _, Value)| {
        let one = |of: &MemoryUse| Some(Series::gauge(labels(of), value(of)?));
        Metric::gauge(name, help, seen.iter().filter_map(one).collect())
    };
    let evicted = |of: &MemoryUse| Some(Series::count(labels(of), of.reported.as_ref()?.evicted));
    let help = "Entries that a node evicted because its memory was full, since its start";
    let evicted = Metric::counter("cache_memory_evicted_keys", help, seen.iter().filter_map(evicted).collect());
    gauges.into_iter().map(gauge).chain([evicted]).collect()
}
