//! The counters of the cache, by key pattern. Names and units follow the conventions of Prometheus,
//! and labels come from closed sets.

use std::{array::from_fn, sync::OnceLock, time::Duration};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{
    admission::Refusal,
    l2::Filled,
    outcome::Outcome,
    policy::Policy,
    striped::{LatencyHistogram, StripedCounters},
    warmer::WarmerReport,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    pattern: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tier {
    pattern: &'static str,
    tier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pattern {
    pattern: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FillResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Warming {
    warmer: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Warmer {
    warmer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Load {
    pattern: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    pattern: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfKind {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPattern {
    pub(super) pattern: &'static str,
}

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
pub struct CacheMetrics {
    reads: OnceLock<Box<Reads>>,
    loads: Family<Load, Counter>,
    refused: Family<Refused, Counter>,
    merged_statements: Family<OfPattern, Counter>,
    merged_loads: Family<OfPattern, Counter>,
    load_duration: Family<OfPattern, Histogram, fn() -> Histogram>,
    wait_duration: Family<OfPattern, Histogram, fn() -> Histogram>,
    invalidations: Family<Pattern, Counter>,
    l2_calls: Family<Operation, Counter>,
    fills: Family<FillResult, Counter>,
    warmings: Family<Warming, Counter>,
    warmed: Family<Warmer, Counter>,
    /// The time from a commit to this instance's floors.
    pub(super) lag: Histogram,
    /// The time of a poll of the ledger.
    pub(super) polls: Histogram,
}

fn load_durations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 9))
}

impl CacheMetrics {
    pub(super) fn new() -> Self {
        Self {
            reads: OnceLock::new(),
            loads: Family::default(),
            refused: Family::default(),
            merged_statements: Family::default(),
            merged_loads: Family::default(),
            load_duration: Family::new_with_constructor(load_durations),
            wait_duration: Family::new_with_constructor(load_durations),
            invalidations: Family::default(),
            l2_calls: Family::default(),
            fills: Family::default(),
            warmings: Family::default(),
            warmed: Family::default(),
            lag: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            polls: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
        }
    }

    /// Shows counters of events that have not happened yet as zeros, for the types that will be
    /// cached.
    pub(super) fn prepare(&self, policies: &[Policy]) {
        for Policy { name: pattern, .. } in policies {
            self.reads_of(pattern);
            for result in [OK, FAILED] {
                drop(self.loads.get_or_create(&Load { pattern, result }));
            }
            for reason in Refusal::ALL.map(Refusal::as_str) {
                drop(self.refused.get_or_create(&Refused { pattern, reason }));
            }
            drop(self.merged_statements.get_or_create(&OfPattern { pattern }));
            drop(self.merged_loads.get_or_create(&OfPattern { pattern }));
            drop(self.wait_duration.get_or_create(&OfPattern { pattern }));
        }
    }

    /// Counts one read of the cache, under exactly one outcome.
    pub(super) fn read(&self, pattern: &'static str, outcome: Outcome, took: Duration) {
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
    pub(super) fn loaded(&self, pattern: &'static str, succeeded: bool, took: Duration) {
        self.loads.get_or_create(&Load { pattern, result: if succeeded { OK } else { FAILED } }).inc();
        self.load_duration.get_or_create(&OfPattern { pattern }).observe(took.as_secs_f64());
    }

    /// Counts one load or write that waited for its turn and got it.
    pub(super) fn waited(&self, pattern: &'static str, waited: Duration) {
        self.wait_duration.get_or_create(&OfPattern { pattern }).observe(waited.as_secs_f64());
    }

    /// Counts one statement with this number of values, whose loads waited for their turn.
    pub(super) fn merged(&self, pattern: &'static str, loads: usize) {
        self.merged_statements.get_or_create(&OfPattern { pattern }).inc();
        self.merged_loads.get_or_create(&OfPattern { pattern }).inc_by(loads as u64);
    }

    /// Counts one load or write that was not begun.
    pub(super) fn refused(&self, pattern: &'static str, refusal: Refusal) {
        self.refused.get_or_create(&Refused { pattern, reason: refusal.as_str() }).inc();
    }

    /// Counts one tag whose version a committed write of this instance raised.
    pub(super) fn invalidated(&self, pattern: &str) {
        self.invalidations.get_or_create(&Pattern { pattern: pattern.to_owned() }).inc();
    }

    /// Counts one call of L2 with the result `ok`, `failed` or `skipped`.
    pub(super) fn l2_call(&self, operation: &'static str, result: &'static str) {
        self.l2_calls.get_or_create(&Operation { operation, result }).inc();
    }

    /// Counts one fill of L2 with its result.
    pub(super) fn filled(&self, filled: Filled) {
        let result = match filled {
            Filled::Kept => "kept",
            Filled::LeaseLost => "lease_lost",
            Filled::Older => "older",
            Filled::Released => "released",
        };
        self.fills.get_or_create(&FillResult { result }).inc();
    }

    /// Counts one run of a warmer and its entries.
    pub(super) fn warmed(&self, report: &WarmerReport) {
        let WarmerReport { name: warmer, warmed, error } = report;
        let result = if error.is_none() { "ok" } else { "failed" };
        self.warmings.get_or_create(&Warming { warmer, result }).inc();
        self.warmed.get_or_create(&Warmer { warmer }).inc_by(*warmed as u64);
    }

    /// The number of reads of `pattern` with `outcome`.
    pub(super) fn reads(&self, pattern: &'static str, outcome: Outcome) -> u64 {
        let reads = self.all_reads().find(|reads| reads.pattern == pattern);
        reads.map_or(0, |reads| reads.outcomes.sum(outcome as usize))
    }

    /// The durations of reads of `pattern` with any outcome, as counts by the buckets of
    /// [`LatencyHistogram`].
    pub(super) fn latency(&self, pattern: &'static str) -> Vec<u64> {
        let reads = self.all_reads().find(|reads| reads.pattern == pattern);
        let mut all = vec![0; LatencyHistogram::bounds_us().count() + 1];
        for counted in reads.iter().flat_map(|reads| &reads.durations) {
            all.iter_mut().zip(counted.counts()).for_each(|(sum, count)| *sum += count);
        }
        all
    }

    pub(super) fn encode_reads(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "Reads of the cache by key pattern and outcome";
        let mut requests = encoder.encode_descriptor("cache_requests", help, None, MetricType::Counter)?;
        for Reads { pattern, outcomes, .. } in self.all_reads() {
            // Outcomes that never occurred are written too, because a missing series is not zero in
            // a query.
            for outcome in Outcome::ALL {
                let count = outcomes.sum(outcome as usize);
                ConstCounter::new(count).encode(requests.encode_family(&Request { pattern, outcome })?)?;
            }
        }
        let help = "Time of a read by key pattern and the tier that answered";
        let seconds = Some(&Unit::Seconds);
        let mut durations = encoder.encode_descriptor("cache_read_duration", help, seconds, MetricType::Histogram)?;
        for Reads { pattern, durations: all, .. } in self.all_reads() {
            for (tier, counted) in TIERS.into_iter().zip(all).filter(|(_, counted)| counted.any()) {
                counted.encode(durations.encode_family(&Tier { pattern, tier })?)?;
            }
        }
        Ok(())
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("cache_loads", "Calls of loaders by key pattern and result", self.loads.clone());
        registry.register(
            "cache_admission_refused",
            "Loads and writes that were not begun, by key pattern and reason: no_time, timed_out, full, unreachable",
            self.refused.clone(),
        );
        registry.register(
            "cache_merged_statements",
            "Calls of loaders that brought several values whose loads waited for their turn, by key pattern",
            self.merged_statements.clone(),
        );
        registry.register("cache_merged_loads", "Loads that these calls brought", self.merged_loads.clone());
        registry.register_with_unit(
            "cache_admission_wait_duration",
            "Time that a load or write waited for its turn, by key pattern; what begins at once is not counted",
            Unit::Seconds,
            self.wait_duration.clone(),
        );
        registry.register_with_unit(
            "cache_load_duration",
            "Time of a call of a loader by key pattern",
            Unit::Seconds,
            self.load_duration.clone(),
        );
        registry.register(
            "cache_invalidations",
            "Names invalidated by committed writes of this instance",
            self.invalidations.clone(),
        );
        registry.register_with_unit(
            "cache_poll_duration",
            "Time of a poll of the ledger, from asking to having its answer",
            Unit::Seconds,
            self.polls.clone(),
        );
        registry.register("cache_warmings", "Runs of warmers by result", self.warmings.clone());
        registry.register("cache_warmed_entries", "Entries that warmers saw to", self.warmed.clone());
        registry.register("cache_l2_fills", "Values handed in to L2, kept or refused", self.fills.clone());
        registry.register_with_unit(
            "cache_invalidation_lag",
            "Time from a commit, on whatever instance, to this instance's floors, at most; the fleet's is the largest of all instances",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register("cache_l2_calls", "Calls of L2 by operation and result", self.l2_calls.clone());
    }
}
