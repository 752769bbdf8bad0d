//! The consistency monitor compares a sample of the served answers with the database. It does not
//! use floors, max staleness or the freshness rule, so it shows their faults.
//!
//! Every second it reads the versions of tags that were served recently. Those changes are
//! committed, so after D no answer to a new request may carry lower versions. The monitor counts
//! and logs such an answer. There are no false alarms.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    clock::Clock,
    consistency::freshness::{Epoch, Freshness},
    consistency::ledger,
    consistency::staleness::{Staleness, StalenessRates},
    database::pool::ConnectionPool,
    entry::TagVersion,
    key::Tag,
    observe::counters::Histogram,
    observe::snapshot::{Metric, Series},
};

/// One of this many answers is checked.
const SAMPLE: u32 = 16;
/// The largest number of tags that are followed at a time.
const MAX_TAGS: usize = 500;
/// The pause between two reads of their versions.
const PAUSE: Duration = Duration::from_secs(1);

/// The parts of a served answer that the monitor checks.
pub(crate) struct ServedSample<'a> {
    pub(crate) tag_versions: &'a [TagVersion],
    /// The number of the epoch to which the tag versions belong.
    pub(crate) epoch: u64,
    /// The time since the database was read.
    pub(crate) age: Duration,
    /// The time when its request began, by the instance's clock.
    pub(crate) begun: Duration,
}

/// The versions below which no answer may be.
#[derive(Default)]
struct Baseline {
    versions: Arc<HashMap<Tag, i64>>,
    epoch: u64,
    /// The start times of the requests to which it applies. A newer baseline exists before the end,
    /// unless the database is down.
    applies_to: Range<Duration>,
}

pub(crate) struct ConsistencyMonitor {
    baseline: RwLock<Baseline>,
    /// The tags to read next.
    recent_tags: Mutex<HashSet<Tag>>,
    checked: AtomicU64,
    stale: AtomicU64,
    rates: StalenessRates,
    age: Histogram,
}

impl ConsistencyMonitor {
    pub(crate) fn new() -> Self {
        Self {
            baseline: RwLock::default(),
            recent_tags: Mutex::default(),
            checked: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            rates: StalenessRates::default(),
            age: Histogram::exponential(Duration::from_millis(1), 4, 12),
        }
    }

    /// Checks a random part of the answers.
    pub(crate) fn sample(&self, served: &ServedSample<'_>) {
        if fastrand::u32(..SAMPLE) == 0 {
            self.check(served);
        }
    }

    fn check(&self, served: &ServedSample<'_>) {
        self.age.observe(served.age);
        let mut recent_tags = self.recent_tags.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_TAGS.saturating_sub(recent_tags.len());
        recent_tags.extend(served.tag_versions.iter().take(room).map(|tag_version| tag_version.tag.clone()));
        drop(recent_tags);
        self.rates.check(served.tag_versions, served.epoch, served.begun);

        let baseline = self.baseline.read().unwrap_or_else(PoisonError::into_inner);
        if served.epoch != baseline.epoch || !baseline.applies_to.contains(&served.begun) {
            return;
        }
        let compared = |tag_version: &TagVersion| {
            baseline.versions.get(&tag_version.tag).map(|version| tag_version.version.cmp(version))
        };
        let worst = served
            .tag_versions
            .iter()
            .filter_map(|tag_version| Some((compared(tag_version)?, tag_version)))
            .min_by_key(|(how, _)| *how);
        let Some((how, tag_version)) = worst else { return };
        self.checked.fetch_add(1, Relaxed);
        if how == Ordering::Less {
            self.stale.fetch_add(1, Relaxed);
            tracing::error!(
                pattern = tag_version.tag.pattern(),
                "stale answer: a served answer was older than promised"
            );
        }
    }

    /// Reads the versions of recently served tags in a loop.
    pub(crate) async fn run(&self, db: &ConnectionPool, freshness: &Freshness, clock: &Clock) {
        loop {
            // A baseline applies only after D, so the next one must not replace it earlier.
            let pause = PAUSE.max(2 * freshness.max_staleness());
            tokio::time::sleep(pause).await;
            let tags = std::mem::take(&mut *self.recent_tags.lock().unwrap_or_else(PoisonError::into_inner));
            let epoch = freshness.epoch();
            // If the database can't be read, the known baseline continues to apply.
            if let Ok((epoch_name, versions)) = ledger::versions_with_epoch(db, tags, freshness.retention()).await {
                let read_at = clock.now();
                let from = read_at + freshness.max_staleness();
                self.baseline(&epoch, &epoch_name, versions, from..from + 2 * pause, read_at);
            }
        }
    }

    fn baseline(
        &self,
        epoch: &Epoch,
        epoch_name: &str,
        versions: Vec<TagVersion>,
        applies_to: Range<Duration>,
        read_at: Duration,
    ) {
        if *epoch.name == *epoch_name {
            let versions = versions.into_iter().map(|tag_version| (tag_version.tag, tag_version.version));
            let versions = Arc::new(versions.collect());
            self.rates.read(epoch, &versions, read_at);
            *self.baseline.write().unwrap_or_else(PoisonError::into_inner) =
                Baseline { versions, epoch: epoch.number, applies_to };
        }
    }

    /// The number of compared answers, and the number of these that were older than guaranteed.
    pub(crate) fn seen(&self) -> (u64, u64) {
        (self.checked.load(Relaxed), self.stale.load(Relaxed))
    }

    /// The stale answers by time scale.
    pub(crate) fn rates(&self) -> Vec<Staleness> {
        self.rates.seen()
    }

    pub(crate) fn snapshot(&self) -> [Metric; 5] {
        let (checked, stale) = self.seen();
        let count = |count| vec![Series::count(Vec::new(), count)];
        let [compared, answers_stale] = self.rates.snapshot();
        let age = vec![Series::distribution(Vec::new(), self.age.distribution())];
        [
            Metric::counter(
                "cache_served_checked",
                "Served answers that were compared with the database",
                count(checked),
            ),
            Metric::counter("cache_stale_served", "Of these, answers older than promised: must be 0", count(stale)),
            Metric::histogram("cache_served_age", "Age of served answers, a sample", age),
            compared,
            answers_stale,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Duration = Duration::from_secs(5);

    fn tag_version(version: i64) -> TagVersion {
        TagVersion { tag: Tag::from_ledger("product:1"), version }
    }

    /// Checks one answer by a monitor with the baseline version 7, and returns its counts.
    fn after(version: i64, epoch: u64, begun: Duration) -> (u64, u64) {
        let monitor = ConsistencyMonitor::new();
        monitor.baseline(
            &Epoch { number: 3, name: "epoch".into() },
            "epoch",
            vec![tag_version(7)],
            FROM..FROM + 2 * PAUSE,
            FROM,
        );
        monitor.check(&ServedSample { tag_versions: &[tag_version(version)], epoch, age: Duration::ZERO, begun });
        monitor.seen()
    }

    #[test]
    fn an_answer_below_what_was_committed_d_before_is_counted() {
        assert_eq!(after(6, 3, FROM), (1, 1));
        assert_eq!(after(7, 3, FROM), (1, 0));
        assert_eq!(after(8, 3, FROM), (1, 0));
    }

    #[test]
    fn what_began_earlier_or_much_later_or_belongs_to_another_epoch_is_not_compared() {
        assert_eq!(after(6, 3, FROM - Duration::from_nanos(1)), (0, 0));
        assert_eq!(after(6, 3, FROM + 2 * PAUSE), (0, 0));
        assert_eq!(after(6, 2, FROM), (0, 0));
    }

    #[test]
    fn versions_of_another_epoch_demand_nothing() {
        let monitor = ConsistencyMonitor::new();
        monitor.baseline(
            &Epoch { number: 3, name: "epoch".into() },
            "another",
            vec![tag_version(7)],
            FROM..FROM + 2 * PAUSE,
            FROM,
        );
        monitor.check(&ServedSample { tag_versions: &[tag_version(6)], epoch: 3, age: Duration::ZERO, begun: FROM });
        assert_eq!(monitor.seen(), (0, 0));
    }
}
