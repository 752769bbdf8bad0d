//! The counters of the cache, by key pattern. Names and units follow the conventions of Prometheus,
//! and labels come from closed sets.

use std::{
    array::from_fn,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    admission::Refusal,
    observe::counters::{Counters, Family, Histogram},
    observe::l2_metrics::L2Metrics,
    observe::snapshot::{Labels, Metric, Series, of_pattern},
    observe::striped::{LatencyHistogram, StripedCounters},
    outcome::Outcome,
    policy::Policy,
    warmer::WarmerReport,
};

/// The results of a load.
const OK: &str = "ok";
const FAILED: &str = "failed";

/// The tiers that can answer a read, for its histogram.
const TIERS: [&str; 6] = ["l1", "l2", "joined", "stale", "none", "load"];

/// The reads of one key pattern.
#[derive(Debug)]
struct Reads {
    pattern: &'static str,
    outcomes: StripedCounters<{ Outcome::ALL.len() }>,
    durations: [LatencyHistogram; TIERS.len()],
    /// The reads of the next pattern. The list can be read without a lock while it grows, and it is
    /// always short.
    next: OnceLock<Box<Self>>,
}

impl Reads {
    fn new(pattern: &'static str) -> Self {
        Self {
            pattern,
            outcomes: StripedCounters::default(),
            durations: from_fn(|_| LatencyHistogram::default()),
            next: OnceLock::new(),
        }
    }

    fn count(&self, outcome: Outcome, took: Duration) {
        self.outcomes.add(outcome as usize, 1);
        if let Some(tier) = TIERS.iter().position(|tier| *tier == outcome.tier()) {
            self.durations[tier].observe(took);
        }
    }
}

/// Counters and histograms of one cache.
#[derive(Debug)]
pub(crate) struct CacheMetrics {
    reads: OnceLock<Box<Reads>>,
    /// By key pattern and result.
    loads: Counters<(&'static str, &'static str)>,
    /// By key pattern and reason.
    refused: Counters<(&'static str, &'static str)>,
    merged_statements: Counters<&'static str>,
    merged_loads: Counters<&'static str>,
    load_duration: Family<&'static str, Histogram>,
    wait_duration: Family<&'static str, Histogram>,
    /// By key pattern, also of tags without a policy.
    invalidations: Counters<String>,
    pub(crate) l2: Arc<L2Metrics>,
    /// By warmer and result.
    warmings: Counters<(&'static str, &'static str)>,
    warmed: Counters<&'static str>,
    /// The time from a commit to this instance's floors.
    pub(crate) lag: Arc<Histogram>,
    /// The time of a poll of the ledger.
    pub(crate) polls: Arc<Histogram>,
}

fn load_durations() -> Histogram {
    Histogram::exponential(Duration::from_micros(100), 4, 9)
}

impl CacheMetrics {
    pub(crate) fn new() -> Self {
        Self {
            reads: OnceLock::new(),
            loads: Counters::default(),
            refused: Counters::default(),
            merged_statements: Counters::default(),
            merged_loads: Counters::default(),
            load_duration: Family::new(load_durations),
            wait_duration: Family::new(load_durations),
            invalidations: Counters::default(),
            l2: Arc::default(),
            warmings: Counters::default(),
            warmed: Counters::default(),
            lag: Arc::new(Histogram::exponential(Duration::from_micros(500), 2, 14)),
            polls: Arc::new(Histogram::exponential(Duration::from_micros(100), 2, 14)),
        }
    }

    /// Shows counters of events that have not happened yet as zeros, for the types that will be
    /// cached.
    pub(crate) fn prepare(&self, policies: &[Policy]) {
        for Policy { name: pattern, .. } in policies {
            self.reads_of(pattern);
            for result in [OK, FAILED] {
                self.loads.add(&(*pattern, result), 0);
            }
            for reason in Refusal::ALL.map(Refusal::as_str) {
                self.refused.add(&(*pattern, reason), 0);
            }
            self.merged_statements.add(pattern, 0);
            self.merged_loads.add(pattern, 0);
            self.wait_duration.with(pattern, |_| ());
        }
    }

    /// Counts one read of the cache, under exactly one outcome.
    pub(crate) fn read(&self, pattern: &'static str, outcome: Outcome, took: Duration) {
        self.reads_of(pattern).count(outcome, took);
    }

    fn reads_of(&self, pattern: &'static str) -> &Reads {
        let mut place = &self.reads;
        loop {
            let reads = place.get_or_init(|| Box::new(Reads::new(pattern)));
            if reads.pattern == pattern {
                return reads;
            }
            place = &reads.next;
        }
    }

    /// The reads of all patterns that were read.
    fn all_reads(&self) -> impl Iterator<Item = &Reads> {
        std::iter::successors(self.reads.get(), |reads| reads.next.get()).map(|reads| &**reads)
    }

    /// Counts one call of a loader, for one key or many.
    pub(crate) fn loaded(&self, pattern: &'static str, succeeded: bool, took: Duration) {
        self.loads.add(&(pattern, if succeeded { OK } else { FAILED }), 1);
        self.load_duration.with(&pattern, |durations| durations.observe(took));
    }

    /// Counts one load or write that waited for its turn and got it.
    pub(crate) fn waited(&self, pattern: &'static str, waited: Duration) {
        self.wait_duration.with(&pattern, |durations| durations.observe(waited));
    }

    /// Counts one statement with this number of values, whose loads waited for their turn.
    pub(crate) fn merged(&self, pattern: &'static str, loads: usize) {
        self.merged_statements.add(&pattern, 1);
        self.merged_loads.add(&pattern, loads as u64);
    }

    /// Counts one load or write that was not begun.
    pub(crate) fn refused(&self, pattern: &'static str, refusal: Refusal) {
        self.refused.add(&(pattern, refusal.as_str()), 1);
    }

    /// Counts one tag whose version a committed write of this instance raised.
    pub(crate) fn invalidated(&self, pattern: &str) {
        self.invalidations.add(pattern, 1);
    }

    /// Counts one run of a warmer and its entries.
    pub(crate) fn warmed(&self, report: &WarmerReport) {
        let WarmerReport { name: warmer, warmed, error } = report;
        let result = if error.is_none() { "ok" } else { "failed" };
        self.warmings.add(&(*warmer, result), 1);
        self.warmed.add(warmer, *warmed as u64);
    }

    /// The number of reads of `pattern` with `outcome`.
    pub(crate) fn reads(&self, pattern: &'static str, outcome: Outcome) -> u64 {
        let reads = self.all_reads().find(|reads| reads.pattern == pattern);
        reads.map_or(0, |reads| reads.outcomes.sum(outcome as usize))
    }

    /// The durations of reads of `pattern` with any outcome, as counts by the buckets of
    /// [`LatencyHistogram`].
    pub(crate) fn latency(&self, pattern: &'static str) -> Vec<u64> {
        let reads = self.all_reads().find(|reads| reads.pattern == pattern);
        let mut all = vec![0; LatencyHistogram::bounds_us().count() + 1];
        for counted in reads.iter().flat_map(|reads| &reads.durations) {
            all.iter_mut().zip(counted.counts()).for_each(|(sum, count)| *sum += count);
        }
        all
    }

    /// All metrics that are counted here.
    pub(crate) fn snapshot(&self) -> Vec<Metric> {
        let pattern = |pattern: &&'static str| of_pattern(*pattern);
        let one = |name: &'static str| move |value: &&'static str| -> Labels { vec![(name, (*value).to_owned())] };
        let two = |first: &'static str, second: &'static str| {
            move |values: &(&'static str, &'static str)| -> Labels {
                vec![(first, values.0.to_owned()), (second, values.1.to_owned())]
            }
        };
        let alone = |histogram: &Histogram| vec![Series::distribution(Vec::new(), histogram.distribution())];
        vec![
            self.requests(),
            self.read_durations(),
            Metric::counter(
                "cache_loads",
                "Calls of loaders by key pattern and result",
                Series::counts(&self.loads, two("pattern", "result")),
            ),
            Metric::counter(
                "cache_admission_refused",
                "Loads and writes that were not begun, by key pattern and reason: no_time, timed_out, full, unreachable",
                Series::counts(&self.refused, two("pattern", "reason")),
            ),
            Metric::counter(
                "cache_merged_statements",
                "Calls of loaders that brought several values whose loads waited for their turn, by key pattern",
                Series::counts(&self.merged_statements, pattern),
            ),
            Metric::counter(
                "cache_merged_loads",
                "Loads that these calls brought",
                Series::counts(&self.merged_loads, pattern),
            ),
            Metric::histogram(
                "cache_admission_wait_duration",
                "Time that a load or write waited for its turn, by key pattern; what begins at once is not counted",
                Series::distributions(&self.wait_duration, pattern),
            ),
            Metric::histogram(
                "cache_load_duration",
                "Time of a call of a loader by key pattern",
                Series::distributions(&self.load_duration, pattern),
            ),
            Metric::counter(
                "cache_invalidations",
                "Names invalidated by committed writes of this instance",
                Series::counts(&self.invalidations, |pattern| of_pattern(pattern)),
            ),
            Metric::histogram(
                "cache_poll_duration",
                "Time of a poll of the ledger, from asking to having its answer",
                alone(&self.polls),
            ),
            Metric::counter(
                "cache_warmings",
                "Runs of warmers by result",
                Series::counts(&self.warmings, two("warmer", "result")),
            ),
            Metric::counter(
                "cache_warmed_entries",
                "Entries that warmers saw to",
                Series::counts(&self.warmed, one("warmer")),
            ),
            Metric::counter(
                "cache_l2_fills",
                "Values handed in to L2, kept or refused",
                Series::counts(&self.l2.fills, one("result")),
            ),
            Metric::histogram(
                "cache_invalidation_lag",
                "Time from a commit, on whatever instance, to this instance's floors, at most; the fleet's is the largest of all instances",
                alone(&self.lag),
            ),
            Metric::counter(
                "cache_l2_calls",
                "Calls of L2 by operation and result",
                Series::counts(&self.l2.calls, two("operation", "result")),
            ),
        ]
    }

    /// The reads by outcome. Outcomes that never occurred are listed too, because a missing series
    /// is not zero in a query.
    fn requests(&self) -> Metric {
        let one = |reads: &Reads, outcome: Outcome| {
            let labels = vec![("pattern", reads.pattern.to_owned()), ("outcome", outcome.as_str().to_owned())];
            Series::count(labels, reads.outcomes.sum(outcome as usize))
        };
        let all = self.all_reads().flat_map(|reads| Outcome::ALL.map(|outcome| one(reads, outcome)));
        Metric::counter("cache_requests", "Reads of the cache by key pattern and outcome", all.collect())
    }

    fn read_durations(&self) -> Metric {
        let one = |reads: &Reads, tier: &'static str, durations: &LatencyHistogram| {
            let labels = vec![("pattern", reads.pattern.to_owned()), ("tier", tier.to_owned())];
            durations.any().then(|| Series::distribution(labels, durations.distribution()))
        };
        let of = |reads| move |(tier, durations)| one(reads, tier, durations);
        let help = "Time of a read by key pattern and the tier that answered";
        Metric::histogram(
            "cache_read_duration",
            help,
            self.all_reads().flat_map(|reads| TIERS.into_iter().zip(&reads.durations).filter_map(of(reads))).collect(),
        )
    }
}
