//! The rate of stale answers by time scale: how many answers are older than a change that was
//! committed a second, ten seconds or a minute before their request began. Meta states the
//! consistency of its caches in this form ("Cache made consistent", 2022).

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;

use crate::{
    consistency::freshness::Epoch,
    entry::TagVersion,
    key::Tag,
    observe::snapshot::{Metric, Series},
};

/// The time scales, with their names in metrics.
const SCALES: [(&str, Duration); 3] =
    [("1s", Duration::from_secs(1)), ("10s", Duration::from_secs(10)), ("1m", Duration::from_secs(60))];
/// How long versions are compared after they were read. It is less than the time for which idle
/// versions are kept.
const MAX_AGE: Duration = Duration::from_mins(10);

/// The stale answers at one time scale, as a part of the compared ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Staleness {
    /// The time between a commit and the begin of a request, in seconds.
    pub after_seconds: u64,
    /// Answers that were compared: a sample of all answers.
    pub compared: u64,
    /// Answers among these that were older than a change which was committed this long before.
    pub stale: u64,
    /// Stale answers as a part of the compared ones. `None` if none was compared.
    pub rate: Option<f64>,
}

/// Versions that were committed when they were read.
#[derive(Clone, Default)]
struct Committed {
    versions: Arc<HashMap<Tag, i64>>,
    epoch: u64,
    read_at: Duration,
}

/// One time scale. Versions that were read last wait until they are old enough. The ones before
/// are compared meanwhile.
#[derive(Default)]
struct Scale {
    committed: RwLock<[Committed; 2]>,
    compared: AtomicU64,
    stale: AtomicU64,
}

/// Counts stale answers at all time scales.
#[derive(Default)]
pub(crate) struct StalenessRates([Scale; SCALES.len()]);

impl StalenessRates {
    /// Takes the versions that were read from the ledger, with the time after they were read.
    pub(crate) fn read(&self, epoch: &Epoch, versions: &Arc<HashMap<Tag, i64>>, read_at: Duration) {
        for (scale, (_, after)) in self.0.iter().zip(SCALES) {
            let mut committed = scale.committed.write().unwrap_or_else(PoisonError::into_inner);
            let [waiting, compared] = &mut *committed;
            if read_at >= waiting.read_at + after || waiting.epoch != epoch.number {
                *compared = std::mem::take(waiting);
                *waiting = Committed { versions: Arc::clone(versions), epoch: epoch.number, read_at };
            }
        }
    }

    /// Compares an answer to a request that began at `begun`.
    pub(crate) fn check(&self, tag_versions: &[TagVersion], epoch: u64, begun: Duration) {
        for (scale, (_, after)) in self.0.iter().zip(SCALES) {
            let committed = scale.committed.read().unwrap_or_else(PoisonError::into_inner);
            let applies = |known: &&Committed| {
                let age = begun.saturating_sub(known.read_at);
                known.epoch == epoch && epoch > 0 && (after..MAX_AGE).contains(&age)
            };
            let Some(known) = committed.iter().find(applies) else { continue };
            let of = |version: &TagVersion| Some(version.version < *known.versions.get(&version.tag)?);
            let mut older = tag_versions.iter().filter_map(of).peekable();
            if older.peek().is_some() {
                scale.compared.fetch_add(1, Relaxed);
                scale.stale.fetch_add(u64::from(older.any(|is_older| is_older)), Relaxed);
            }
        }
    }

    /// The counts so far.
    pub(crate) fn seen(&self) -> Vec<Staleness> {
        let seen = |(scale, (_, after)): (&Scale, (_, Duration))| {
            let (compared, stale) = (scale.compared.load(Relaxed), scale.stale.load(Relaxed));
            let rate = (compared > 0).then(|| stale as f64 / compared as f64);
            Staleness { after_seconds: after.as_secs(), compared, stale, rate }
        };
        self.0.iter().zip(SCALES).map(seen).collect()
    }

    pub(crate) fn snapshot(&self) -> [Metric; 2] {
        let series = |of: fn(&Scale) -> &AtomicU64| {
            let one = |(scale, (name, _)): (&Scale, (&str, Duration))| {
                Series::count(vec![("after", name.to_owned())], of(scale).load(Relaxed))
            };
            self.0.iter().zip(SCALES).map(one).collect()
        };
        [
            Metric::counter(
                "cache_answers_compared",
                "Served answers that were compared with versions read this long before: a sample",
                series(|scale| &scale.compared),
            ),
            Metric::counter(
                "cache_answers_stale",
                "Of these, answers older than a change that was committed this long before their request",
                series(|scale| &scale.stale),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: i64) -> [TagVersion; 1] {
        [TagVersion { tag: Tag::from_ledger("product:1"), version }]
    }

    /// The counts of an answer after version 7 was read at 100 s, and version 8 at 105 s.
    fn after(answer: i64, begun: u64, epoch: u64) -> Vec<(u64, u64)> {
        let rates = StalenessRates::default();
        for (at, version) in [(100, 7), (105, 8)] {
            let versions = Arc::new(HashMap::from([(Tag::from_ledger("product:1"), version)]));
            rates.read(&Epoch { number: 3, name: "epoch".into() }, &versions, Duration::from_secs(at));
        }
        rates.check(&version(answer), epoch, Duration::from_secs(begun));
        rates.seen().iter().map(|staleness| (staleness.compared, staleness.stale)).collect()
    }

    #[test]
    fn an_answer_is_stale_at_the_time_scales_that_its_change_has_reached() {
        assert_eq!(after(6, 106, 3), [(1, 1), (0, 0), (0, 0)]);
        assert_eq!(after(7, 106, 3), [(1, 1), (0, 0), (0, 0)], "a second after the second change");
        assert_eq!(after(7, 111, 3), [(1, 1), (1, 0), (0, 0)], "ten seconds after the first one");
        assert_eq!(after(6, 160, 3), [(1, 1), (1, 1), (1, 1)]);
        assert_eq!(after(8, 160, 3), [(1, 0), (1, 0), (1, 0)]);
    }

    #[test]
    fn other_epochs_and_versions_that_are_not_known_prove_nothing() {
        assert_eq!(after(6, 160, 2), [(0, 0); 3]);
        assert_eq!(after(6, 105 + 600, 3), [(0, 0); 3], "the versions may have been removed");
        let rates = StalenessRates::default();
        rates.check(&version(1), 0, Duration::from_secs(500));
        assert_eq!(rates.seen()[0], Staleness { after_seconds: 1, compared: 0, stale: 0, rate: None });
    }
}
