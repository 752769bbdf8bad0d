//! The cache at a glance, for people and scripts: what the metrics say, without a time series database.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{BreakerState, Cache, freshness::Verdict, key::Tag, outcome::Outcome, pressure::MemoryUse};

/// What the cache holds and how its reads ended since the start.
#[derive(Clone, Debug, Serialize)]
pub struct CacheStats {
    /// Whether the tiers may be used at the moment.
    pub is_current: bool,
    /// Milliseconds since the ledger was last polled; `None` before the first time.
    pub poll_age_ms: Option<u64>,
    /// Floors held.
    pub floors: usize,
    /// Served answers that were compared with the database.
    pub served_checked: u64,
    /// Of these, answers older than promised.
    pub stale_served: u64,
    /// The tier in this process.
    pub l1: L1Stats,
    /// The shared tier's breaker; `None` without an L2.
    pub l2_breaker: Option<BreakerState>,
    /// How full the memory of each tier and node is.
    pub memory: Vec<MemoryUse>,
    /// Reads by key pattern.
    pub patterns: BTreeMap<&'static str, PatternStats>,
}

/// What is known of a key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInspection {
    /// The key.
    pub tag: String,
    /// Its entry in L1, which may be too old to be served.
    pub l1: Option<EntryInspection>,
    /// The version below which nothing under this tag is served; `None`: nothing is refused for its version. That a whole pattern
    /// was invalidated is seen in `served`.
    pub floor: Option<i64>,
}

/// What is known of an entry.
#[derive(Clone, Debug, Serialize)]
pub struct EntryInspection {
    /// Bytes, as weighed.
    pub bytes: u32,
    /// Milliseconds since the database was read.
    pub age_ms: u64,
    /// The version that the ledger had for this tag then; `None` for lists, which depend on other tags.
    pub version: Option<i64>,
    /// Whether a read that begins now may be answered with it.
    pub served: bool,
}

/// Size of L1.
#[derive(Clone, Debug, Serialize)]
pub struct L1Stats {
    /// Bytes held, as weighed.
    pub bytes: u64,
    /// Bytes that may be held.
    pub capacity_bytes: u64,
    /// Entries held.
    pub entries: u64,
}

/// Reads of one key pattern.
#[derive(Clone, Debug, Serialize)]
pub struct PatternStats {
    /// Bytes held in L1, as weighed.
    pub l1_bytes: i64,
    /// Loads that use a connection to the database now.
    pub loads_in_flight: usize,
    /// Loads that wait for their turn to use one.
    pub loads_waiting: usize,
    /// Reads, whatever came of them.
    pub reads: u64,
    /// Reads that a tier answered.
    pub hits: u64,
    /// These as a part of all; `None` before the first read.
    pub hit_ratio: Option<f64>,
    /// How many reads had each outcome; outcomes that never occurred are left out.
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Cache {
    /// The cache at a glance.
    pub fn stats(&self) -> CacheStats {
        let inner = &self.inner;
        let (bytes, entries) = inner.l1.size();
        let (served_checked, stale_served) = inner.monitor.seen();
        CacheStats {
            is_current: inner.freshness.is_current(),
            poll_age_ms: inner.freshness.since_poll().map(|age| age.as_millis() as u64),
            floors: inner.freshness.floors(),
            served_checked,
            stale_served,
            l1: L1Stats { bytes, capacity_bytes: inner.l1_bytes, entries },
            l2_breaker: inner.l2.as_ref().map(|l2| l2.breaker()),
            memory: inner.pressure.seen(),
            patterns: self.patterns(),
        }
    }

    /// How long reads took since the start, by key pattern: counts by the buckets of [`LatencyHistogram`](super::LatencyHistogram).
    pub fn latencies(&self) -> BTreeMap<&'static str, Vec<u64>> {
        let policies = self.inner.policies.iter();
        policies.map(|policy| (policy.name, self.inner.metrics.latency(policy.name))).collect()
    }

    /// What this instance knows of one key, without its value.
    pub fn inspect(&self, tag: &Tag) -> KeyInspection {
        let (floor, now) = (self.inner.freshness.floor(tag), self.inner.clock.now());
        let l1 = self.inner.l1.inspect(tag).map(|(local, bytes)| {
            let (version, loaded_at, verdict) = local.inspect(tag, &self.inner.freshness, now);
            let age_ms = self.inner.freshness.age(loaded_at, now).as_millis() as u64;
            EntryInspection { bytes, age_ms, version, served: verdict == Verdict::Serve }
        });
        KeyInspection { tag: tag.to_string(), l1, floor }
    }

    fn patterns(&self) -> BTreeMap<&'static str, PatternStats> {
        let usages = self.inner.admission.usages(&self.inner.policies);
        let patterns = self.inner.policies.iter().map(|policy| policy.name);
        let stats = |pattern| {
            let usage = usages.iter().find(|(of, ..)| *of == pattern);
            let (_, in_flight, waiting) = usage.copied().unwrap_or_default();
            (pattern, self.pattern(pattern, (in_flight, waiting)))
        };
        patterns.map(stats).collect()
    }

    fn pattern(&self, pattern: &'static str, (loads_in_flight, loads_waiting): (usize, usize)) -> PatternStats {
        let count = |outcome| (outcome, self.inner.metrics.reads(pattern, outcome));
        let counts: Vec<(Outcome, u64)> = Outcome::ALL.into_iter().map(count).filter(|(_, n)| *n > 0).collect();
        let sum = |of: fn(Outcome) -> bool| counts.iter().filter(|(o, _)| of(*o)).map(|(_, n)| n).sum::<u64>();
        let (all, hits) = (sum(|_| true), sum(Outcome::is_hit));
        PatternStats {
            l1_bytes: self.inner.l1.usage().get(pattern).copied().unwrap_or_default().bytes,
            loads_in_flight,
            loads_waiting,
            reads: all,
            hits,
            hit_ratio: (all > 0).then(|| hits as f64 / all as f64),
            outcomes: counts.into_iter().map(|(outcome, n)| (outcome.as_str(), n)).collect(),
        }
    }
}
