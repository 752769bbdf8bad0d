//! What the cache counts, per key pattern. Names and units follow Prometheus' conventions; labels come from closed sets.

use std::{
    array::from_fn,
    sync::{OnceLock, Weak},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{
    Inner,
    breaker::BreakerState,
    counts::{Counts, Durations},
    l2::Filled,
    outcome::Outcome,
    policy::Policy,
    pressure::MemoryUse,
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
struct Load {
    pattern: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadedPattern {
    pattern: &'static str,
}

/// Where a read was answered, for its histogram.
const TIERS: [&str; 6] = ["l1", "l2", "joined", "stale", "none", "load"];

/// The reads of one key pattern.
#[derive(Debug)]
struct Reads {
    pattern: &'static str,
    outcomes: Counts<{ Outcome::ALL.len() }>,
    durations: [Durations; TIERS.len()],
    /// Those of the next pattern. A list, because it can be read without a lock while it grows, and is never long.
    next: OnceLock<Box<Self>>,
}

impl Reads {
    fn new(pattern: &'static str) -> Self {
        Self {
            pattern,
            outcomes: Counts::default(),
            durations: from_fn(|_| Durations::default()),
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
    load_duration: Family<LoadedPattern, Histogram, fn() -> Histogram>,
    invalidations: Family<Pattern, Counter>,
    l2_calls: Family<Operation, Counter>,
    fills: Family<FillResult, Counter>,
    /// Time from a commit to this instance's floors.
    pub(super) lag: Histogram,
    /// Time of a look at the ledger.
    pub(super) looks: Histogram,
}

impl CacheMetrics {
    pub(super) fn new() -> Self {
        Self {
            reads: OnceLock::new(),
            loads: Family::default(),
            load_duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 4.0, 9))),
            invalidations: Family::default(),
            l2_calls: Family::default(),
            fills: Family::default(),
            lag: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            looks: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
        }
    }

    /// One read of the cache, under exactly one outcome.
    pub(super) fn read(&self, pattern: &'static str, outcome: Outcome, took: Duration) {
        let mut place = &self.reads;
        loop {
            let reads = place.get_or_init(|| Box::new(Reads::new(pattern)));
            if reads.pattern == pattern {
                return reads.count(outcome, took);
            }
            place = &reads.next;
        }
    }

    /// The reads of all patterns that were read.
    fn all_reads(&self) -> impl Iterator<Item = &Reads> {
        std::iter::successors(self.reads.get(), |reads| reads.next.get()).map(|reads| &**reads)
    }

    /// One call of a loader, for one key or many.
    pub(super) fn loaded(&self, pattern: &'static str, succeeded: bool, took: Duration) {
        let result = if succeeded { "ok" } else { "failed" };
        self.loads.get_or_create(&Load { pattern, result }).inc();
        self.load_duration.get_or_create(&LoadedPattern { pattern }).observe(took.as_secs_f64());
    }

    /// One call of a loader that was not made, for want of room.
    pub(super) fn load_refused(&self, pattern: &'static str) {
        self.loads.get_or_create(&Load { pattern, result: "refused" }).inc();
    }

    /// One name whose number a committed write of this instance raised.
    pub(super) fn invalidated(&self, pattern: &str) {
        self.invalidations.get_or_create(&Pattern { pattern: pattern.to_owned() }).inc();
    }

    /// One call of L2: `ok`, `failed` or `skipped`.
    pub(super) fn l2_call(&self, operation: &'static str, result: &'static str) {
        self.l2_calls.get_or_create(&Operation { operation, result }).inc();
    }

    /// One value handed in to L2: kept, or refused and why.
    pub(super) fn filled(&self, filled: Filled) {
        let result = match filled {
            Filled::Kept => "kept",
            Filled::LeaseLost => "lease_lost",
            Filled::Older => "older",
            Filled::Released => "released",
        };
        self.fills.get_or_create(&FillResult { result }).inc();
    }

    /// How often reads of `pattern` had `outcome`.
    pub(super) fn reads(&self, pattern: &'static str, outcome: Outcome) -> u64 {
        let reads = self.all_reads().find(|reads| reads.pattern == pattern);
        reads.map_or(0, |reads| reads.outcomes.sum(outcome as usize))
    }

    /// How long reads of `pattern` took, whatever answered them: counts by the buckets of [`Durations`].
    pub(super) fn latency(&self, pattern: &'static str) -> Vec<u64> {
        let reads = self.all_reads().find(|reads| reads.pattern == pattern);
        let mut all = vec![0; Durations::bounds_us().count() + 1];
        for counted in reads.iter().flat_map(|reads| &reads.durations) {
            all.iter_mut().zip(counted.counts()).for_each(|(sum, count)| *sum += count);
        }
        all
    }

    fn encode_reads(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "Reads of the cache by key pattern and outcome";
        let mut requests = encoder.encode_descriptor("cache_requests", help, None, MetricType::Counter)?;
        for Reads { pattern, outcomes, .. } in self.all_reads() {
            for outcome in Outcome::ALL {
                let count = outcomes.sum(outcome as usize);
                if count > 0 {
                    ConstCounter::new(count).encode(requests.encode_family(&Request { pattern, outcome })?)?;
                }
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
            "cache_look_duration",
            "Time of a look at the ledger, from asking to having its answer",
            Unit::Seconds,
            self.looks.clone(),
        );
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

/// What is read off the cache when somebody asks: reads, sizes, trust, breaker.
#[derive(Debug)]
pub(super) struct Gauges(pub(super) Weak<Inner>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(cache) = self.0.upgrade() else {
            return Ok(());
        };
        let (bytes, entries) = cache.l1.size();
        let trust_age = cache.fence.since_look().map_or(f64::INFINITY, |age| age.as_secs_f64());
        let open = cache.l2.as_ref().is_some_and(|l2| l2.breaker() != BreakerState::Closed);
        let memory_known = cache.l2.is_none() || cache.pressure.l2().is_some();
        let values = [
            ("cache_l2_memory_known", "0 while L2 doesn't say how full it is", f64::from(memory_known)),
            ("cache_l1_bytes", "Bytes held in L1", bytes as f64),
            ("cache_l1_capacity_bytes", "Capacity of L1", cache.l1_bytes as f64),
            ("cache_l1_entries", "Entries held in L1", entries as f64),
            ("cache_floors", "Floors held", cache.fence.floors() as f64),
            ("cache_trust_age_seconds", "Time since the ledger was last looked at", trust_age),
            ("cache_trusted", "1 while tiers may be used", f64::from(cache.fence.trusted())),
            ("cache_l2_breaker_open", "1 while L2 is skipped or probed", f64::from(open)),
        ];
        cache.metrics.encode_reads(&mut encoder)?;
        encode_memory(&mut encoder, &cache.pressure.seen())?;
        let mut per_pattern = encoder.encode_descriptor(
            "cache_l1_pattern_bytes",
            "Bytes held in L1 by key pattern",
            None,
            MetricType::Gauge,
        )?;
        for (pattern, bytes) in cache.l1.sizes() {
            let labels = LoadedPattern { pattern };
            ConstGauge::new(bytes).encode(per_pattern.encode_family(&labels)?)?;
        }
        let mut under_way = encoder.encode_descriptor(
            "cache_loads_under_way",
            "Loads under way by key pattern",
            None,
            MetricType::Gauge,
        )?;
        for Policy { pattern, .. } in &cache.policies {
            let labels = LoadedPattern { pattern };
            let loads = cache.bulkhead.under_way(pattern) as f64;
            ConstGauge::new(loads).encode(under_way.encode_family(&labels)?)?;
        }
        for (name, help, value) in values {
            let gauge = ConstGauge::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(descriptor)?;
        }
        Ok(())
    }
}

/// How full each memory is, and what a node of L2 says of itself.
fn encode_memory(encoder: &mut DescriptorEncoder<'_>, seen: &[MemoryUse]) -> std::fmt::Result {
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
            Some(f64::from(!memory.said.as_ref()?.evicts()))
        }),
        ("cache_memory_fragmentation", "Memory that the system has given to a node, for each byte in use", |memory| {
            Some(memory.said.as_ref()?.fragmentation)
        }),
    ];
    for (name, help, value) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for memory in seen {
            if let Some(value) = value(memory) {
                ConstGauge::new(value).encode(family.encode_family(&memory.memory)?)?;
            }
        }
    }
    let help = "Entries that a node evicted because its memory was full, since its start";
    let mut evicted = encoder.encode_descriptor("cache_memory_evicted_keys", help, None, MetricType::Counter)?;
    for memory in seen {
        if let Some(said) = &memory.said {
            ConstCounter::new(said.evicted).encode(evicted.encode_family(&memory.memory)?)?;
        }
    }
    Ok(())
}
