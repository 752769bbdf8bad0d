//! The last five minutes of this instance, which the live page shows when it is opened. Once a
//! second this file counts the reads by their source and looks at the dependencies. A change of
//! state becomes an event.

mod outages;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{MissedTickBehavior, interval},
};

use self::outages::Watch;
pub use self::outages::{Dependency, Outage};
use aside_cache::{Cache, CacheStats, MetricValue, Outcome, Tag};

use super::headline::{Facts, Headline};
use crate::readiness::Readiness;

/// The time between two samples.
const PERIOD: Duration = Duration::from_secs(1);
/// How many seconds are remembered.
const SECONDS: usize = 300;
/// How many events are remembered. Older ones are outside of the five minutes, or there are too
/// many to be read.
const EVENTS: usize = 40;

/// The sources of answers, in the order of their counts in [`Second::reads`].
pub const SOURCES: [&str; 6] = ["l1", "l2", "joined", "load", "stale", "failed"];

/// The reads that ended in one second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Seconds since 1970.
    pub at: u64,
    /// Reads by source, in the order of [`SOURCES`].
    pub reads: [u64; SOURCES.len()],
    /// Tags whose versions rose, on any instance.
    pub changes: u64,
}

/// An event that explains the counts around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Milliseconds since 1970.
    at: u64,
    kind: EventKind,
    text: String,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A dependency stopped answering.
    Lost,
    /// A dependency answers again.
    Back,
    /// An operator invalidated a type or a tenant.
    Invalidated,
    /// Entries were loaded in advance.
    Warmed,
    /// Postgres was restarted, promoted or restored.
    Switched,
}

/// The shared history of this instance. It is cheap to clone.
#[derive(Clone)]
pub struct History {
    cache: Cache,
    readiness: Readiness,
    past: Arc<Mutex<Past>>,
}

#[derive(Default)]
struct Past {
    seconds: VecDeque<Second>,
    events: VecDeque<Event>,
    last: Option<Counts>,
    /// Changes since the last sample.
    changes: u64,
    watch: Watch,
}

/// Counts since the start of the instance.
#[derive(Clone, Copy, Default)]
struct Counts {
    reads: [u64; SOURCES.len()],
    warmed: u64,
    epoch: u64,
}

impl History {
    pub fn new(cache: Cache, readiness: Readiness) -> Self {
        Self { cache, readiness, past: Arc::default() }
    }

    /// Takes a sample each second.
    pub async fn follow(self) {
        let (mut tick, mut changes) = (interval(PERIOD), self.cache.changes());
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = tick.tick() => self.sample(),
                open = self.take_change(&mut changes) => if !open { return },
            }
        }
    }

    /// The remembered seconds, the oldest first.
    pub fn seconds(&self) -> Vec<Second> {
        self.lock().seconds.iter().cloned().collect()
    }

    /// The last `count` seconds, the oldest first.
    pub fn last(&self, count: usize) -> Vec<Second> {
        let past = self.lock();
        past.seconds.iter().skip(past.seconds.len().saturating_sub(count)).cloned().collect()
    }

    /// The remembered events, the oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.iter().cloned().collect()
    }

    /// The state of this instance in a sentence.
    pub fn headline(&self, stats: &CacheStats) -> Headline {
        let past = self.lock();
        let minute = past.seconds.iter().rev().take(60);
        let sum = minute.fold([0; SOURCES.len()], |sum: [u64; SOURCES.len()], second| {
            std::array::from_fn(|at| sum[at] + second.reads[at])
        });
        let all: u64 = sum.iter().sum();
        Headline::new(&Facts {
            phase: self.readiness.phase(),
            checked: stats.served_checked,
            stale: stats.stale_served,
            redis: past.watch.redis(),
            postgres: past.watch.postgres(),
            from_memory: (all > 0).then(|| sum[0] as f64 / all as f64),
        })
    }

    /// Records a change. Returns false if the cache has shut down.
    async fn take_change(&self, changes: &mut Receiver<Tag>) -> bool {
        let (count, tag) = match changes.recv().await {
            Ok(tag) => (1, Some(tag)),
            Err(RecvError::Lagged(missed)) => (missed, None),
            Err(RecvError::Closed) => return false,
        };
        let mut past = self.lock();
        past.changes += count;
        // A tag with a wildcard stands for a type or a tenant, and only operators invalidate these.
        if let Some(tag) = tag.filter(|tag| tag.as_str().contains('*')) {
            let pattern = tag.pattern();
            let named = self.cache.policies().iter().any(|policy| policy.name == pattern);
            let text = if named { format!("{pattern} invalidated") } else { "tenant invalidated".to_owned() };
            past.add(EventKind::Invalidated, text);
        }
        true
    }

    fn sample(&self) {
        let stats = self.cache.stats();
        let now = self.counts(&stats);
        let memory_known = self.cache.l2_memory().is_some();
        let mut past = self.lock();
        past.sample(now, since_1970().as_secs());
        for (kind, text) in past.watch.look(&stats, memory_known, &now.reads) {
            past.add(kind, text);
        }
    }

    fn counts(&self, stats: &CacheStats) -> Counts {
        let mut reads = [0; SOURCES.len()];
        for outcome in Outcome::ALL {
            if let Some(at) = SOURCES.iter().position(|source| *source == source_of(outcome)) {
                let counted = stats.patterns.values().filter_map(|pattern| pattern.outcomes.get(outcome.as_str()));
                reads[at] += counted.sum::<u64>();
            }
        }
        let metrics = self.cache.metrics();
        let warmed = metrics.iter().filter(|metric| metric.name == "cache_warmed_entries");
        let warmed = warmed.flat_map(|metric| &metric.series).map(|series| match series.value {
            MetricValue::Count(count) => count,
            _ => 0,
        });
        Counts { reads, warmed: warmed.sum(), epoch: stats.epoch }
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    /// Adds the difference to the last sample as a second.
    fn sample(&mut self, now: Counts, at: u64) {
        let last = self.last.replace(now).unwrap_or(Counts { epoch: now.epoch, ..Counts::default() });
        let reads = std::array::from_fn(|source| now.reads[source].saturating_sub(last.reads[source]));
        self.seconds.push_back(Second { at, reads, changes: std::mem::take(&mut self.changes) });
        if self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
        if now.warmed > last.warmed {
            self.add(EventKind::Warmed, format!("{} entries warmed", now.warmed - last.warmed));
        }
        if now.epoch > last.epoch && last.epoch > 0 {
            self.add(EventKind::Switched, "Postgres switched".to_owned());
        }
    }

    fn add(&mut self, kind: EventKind, text: String) {
        let at = since_1970().as_millis() as u64;
        // Invalidations of many types in a moment would hide each other.
        self.events.push_back(Event { at, kind, text });
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }
}

/// The source of the answers with this outcome. `only-if-cached` reads without an entry asked for
/// no more, so they have none.
fn source_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed => "failed",
        other => other.tier(),
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(l1: u64, load: u64) -> Counts {
        Counts { reads: [l1, 0, 0, load, 0, 0], warmed: 0, epoch: 1 }
    }

    #[test]
    fn a_second_holds_the_reads_since_the_one_before() {
        let mut past = Past::default();
        past.sample(counts(5, 1), 100);
        past.changes = 2;
        past.sample(counts(9, 1), 101);
        let reads: Vec<_> = past.seconds.iter().map(|second| (second.at, second.reads[0], second.reads[3])).collect();
        assert_eq!(reads, [(100, 5, 1), (101, 4, 0)]);
        assert_eq!(past.seconds[1].changes, 2);
        assert_eq!(past.changes, 0);
    }

    #[test]
    fn five_minutes_are_remembered_and_no_more() {
        let mut past = Past::default();
        (0..=SECONDS as u64).for_each(|at| past.sample(counts(at, 0), at));
        assert_eq!((past.seconds.len(), past.seconds[0].at), (SECONDS, 1));
    }

    #[test]
    fn warmed_entries_and_another_epoch_are_events_and_the_first_epoch_is_none() {
        let mut past = Past::default();
        past.sample(Counts { epoch: 0, ..counts(0, 0) }, 0);
        past.sample(counts(0, 0), 1);
        assert!(past.events.is_empty());
        past.sample(Counts { warmed: 500, epoch: 2, ..counts(0, 0) }, 2);
        let events: Vec<_> = past.events.iter().map(|event| (event.kind, event.text.as_str())).collect();
        let expected = [(EventKind::Warmed, "500 entries warmed"), (EventKind::Switched, "Postgres switched")];
        assert_eq!(events, expected);
    }

    #[test]
    fn each_outcome_but_one_has_a_source() {
        let without: Vec<_> = Outcome::ALL.into_iter().filter(|one| !SOURCES.contains(&source_of(*one))).collect();
        assert_eq!(without, [Outcome::NotCached]);
    }
}
