//! Statistics of the cache for people and scripts: a summary of the metrics that needs no time
//! series database.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    BreakerState, Cache,
    consistency::{freshness::Verdict, ledger, staleness::Staleness},
    key::{Key, Tag},
    outcome::Outcome,
    policy::Cacheable,
    tiers::l1::{LocalEntry, Stored},
    tiers::pressure::MemoryUse,
};

/// The contents of the cache, and how its reads ended since the start.
#[derive(Clone, Debug, Serialize)]
pub struct CacheStats {
    /// Whether the tiers may be used at the moment.
    pub is_current: bool,
    /// Milliseconds since the ledger was last polled; `None` before the first time.
    pub poll_age_ms: Option<u64>,
    /// The staleness bound D in milliseconds.
    pub max_staleness_ms: u64,
    /// The number of epochs of the database that this instance has seen. It rises when the database
    /// was restarted, promoted or restored. It is 0 before the first poll.
    pub epoch: u64,
    /// Floors in memory.
    pub floors: usize,
    /// Served answers that were compared with the database.
    pub served_checked: u64,
    /// Answers among these that were older than promised.
    pub stale_served: u64,
    /// Stale answers by time scale.
    pub staleness: Vec<Staleness>,
    /// Entries that were loaded again with the same versions, and compared.
    pub values_compared: u64,
    /// Entries among these whose data were changed by a writer that raised no tag.
    pub unnamed_changes: u64,
    /// The tier in this process.
    pub l1: L1Stats,
    /// The shared tier's breaker; `None` without an L2.
    pub l2_breaker: Option<BreakerState>,
    /// How full the memory of each tier and node is.
    pub memory: Vec<MemoryUse>,
    /// Reads by key pattern.
    pub patterns: BTreeMap<&'static str, PatternStats>,
}

/// The state of one key in this instance.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInspection {
    /// The key.
    pub tag: String,
    /// Its entry in L1, which may be too old to be served.
    pub l1: Option<EntryInspection>,
    /// The lowest version that may be served for this tag. `None` if no version is too low. If a
    /// whole pattern was invalidated, only `served` shows it.
    pub floor: Option<i64>,
}

/// The state of an entry in L1.
#[derive(Clone, Debug, Serialize)]
pub struct EntryInspection {
    /// Bytes, as L1 weighs the entry.
    pub bytes: u32,
    /// Milliseconds since the database was read.
    pub age_ms: u64,
    /// The ledger's version of this tag at that time. `None` for lists, which depend on other tags.
    pub version: Option<i64>,
    /// Whether a read that begins now may serve the entry.
    pub served: bool,
    /// Why: `fresh`, `expired` (older than its maximum age), `invalidated` (older than a change),
    /// or `not_current` (the ledger was not polled in time).
    pub reason: &'static str,
}

/// The state of one key in every tier and in the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct TierInspection {
    /// The key, its entry in L1 and its floor.
    #[serde(flatten)]
    pub key: KeyInspection,
    /// Its entry in L2. `None` if L2 has none or does not answer.
    pub l2: Option<EntryInspection>,
    /// The version of the key in the ledger now. It is 0 if no change is known. `None` if the
    /// database did not answer.
    pub ledger: Option<i64>,
}

/// The size of L1.
#[derive(Clone, Debug, Serialize)]
pub struct L1Stats {
    /// Bytes in use, as L1 weighs entries.
    pub bytes: u64,
    /// Capacity in bytes.
    pub capacity_bytes: u64,
    /// Number of entries.
    pub entries: u64,
}

/// Reads of one key pattern.
#[derive(Clone, Debug, Serialize)]
pub struct PatternStats {
    /// Bytes in L1, as L1 weighs entries.
    pub l1_bytes: i64,
    /// Loads that use a connection to the database now.
    pub loads_in_flight: usize,
    /// Loads that wait for a connection to the database.
    pub loads_waiting: usize,
    /// Reads with any outcome.
    pub reads: u64,
    /// Reads that a tier answered.
    pub hits: u64,
    /// Hits as a part of all reads. `None` before the first read.
    pub hit_ratio: Option<f64>,
    /// Entries that were loaded again with the same versions, and compared.
    pub values_compared: u64,
    /// Entries among these whose data were changed by a writer that raised no tag.
    pub unnamed_changes: u64,
    /// The number of reads for each outcome. Outcomes that never occurred are left out.
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Cache {
    /// A summary of the cache.
    pub fn stats(&self) -> CacheStats {
        let inner = &self.inner;
        let (bytes, entries) = inner.l1.size();
        let (served_checked, stale_served) = inner.monitor.seen();
        let patterns = self.patterns();
        let sum = |of: fn(&PatternStats) -> u64| patterns.values().map(of).sum();
        CacheStats {
            is_current: inner.freshness.is_current(),
            poll_age_ms: inner.freshness.since_poll().map(|age| age.as_millis() as u64),
            max_staleness_ms: inner.freshness.max_staleness().as_millis() as u64,
            epoch: inner.freshness.epoch().number,
            floors: inner.freshness.floors(),
            served_checked,
            stale_served,
            staleness: inner.monitor.rates(),
            values_compared: sum(|pattern| pattern.values_compared),
            unnamed_changes: sum(|pattern| pattern.unnamed_changes),
            l1: L1Stats { bytes, capacity_bytes: inner.l1_bytes, entries },
            l2_breaker: inner.l2.as_ref().map(|l2| l2.breaker()),
            memory: inner.pressure.seen(),
            patterns,
        }
    }

    /// Durations of reads since the start, for each key pattern. The counts belong to the buckets
    /// of [`LatencyHistogram`](crate::LatencyHistogram).
    pub fn latencies(&self) -> BTreeMap<&'static str, Vec<u64>> {
        let policies = self.inner.policies.iter();
        policies.map(|policy| (policy.name, self.inner.metrics.latency(policy.name))).collect()
    }

    /// The state of one key in this instance, without its value.
    pub fn inspect(&self, tag: &Tag) -> KeyInspection {
        let (floor, now) = (self.inner.freshness.floor(tag), self.inner.clock.now());
        let l1 = self.inner.l1.inspect(tag).map(|(local, bytes)| self.inspect_entry(tag, &*local, bytes, now));
        KeyInspection { tag: tag.to_string(), l1, floor }
    }

    /// The state of one key in L1, in L2 and in the ledger, without its value. It asks L2 and the
    /// database, and stores nothing.
    pub async fn inspect_tiers<T: Cacheable>(&self, key: &Key<T>) -> TierInspection {
        let tag = key.tag();
        let ledger = ledger::versions_with_epoch(&self.inner.db, [tag.clone()], self.inner.freshness.retention());
        let (l2, ledger) = tokio::join!(self.l2_unchecked(key), ledger);
        let now = self.inner.clock.now();
        let bytes = |local: &LocalEntry<T>| u32::try_from(local.entry.body.len()).unwrap_or(u32::MAX);
        TierInspection {
            key: self.inspect(tag),
            l2: l2.map(|local| self.inspect_entry(tag, &local, bytes(&local), now)),
            ledger: ledger.ok().map(|(_, versions)| versions.first().map_or(0, |known| known.version)),
        }
    }

    fn inspect_entry(&self, tag: &Tag, entry: &dyn Stored, bytes: u32, now: Duration) -> EntryInspection {
        let (version, loaded_at, verdict) = entry.inspect(tag, &self.inner.freshness, now);
        let age_ms = self.inner.freshness.age(loaded_at, now).as_millis() as u64;
        let reason = match verdict {
            Verdict::Serve => "fresh",
            Verdict::Expired => "expired",
            Verdict::Invalidated => "invalidated",
            Verdict::NotCurrent => "not_current",
        };
        EntryInspection { bytes, age_ms, version, served: verdict == Verdict::Serve, reason }
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
        let (values_compared, unnamed_changes) = self.inner.comparison.seen(pattern);
        PatternStats {
            l1_bytes: self.inner.l1.usage().get(pattern).copied().unwrap_or_default().bytes,
            loads_in_flight,
            loads_waiting,
            reads: all,
            hits,
            hit_ratio: (all > 0).then(|| hits as f64 / all as f64),
            values_compared,
            unnamed_changes,
            outcomes: counts.into_iter().map(|(outcome, n)| (outcome.as_str(), n)).collect(),
        }
    }
}
