//! The correctness meter: compares a sample of what is served with the database, by a way of its own. Floors, trust and the
//! serve rule have no part in it, so a fault of theirs shows.
//!
//! Every second it reads the numbers of names that were served lately. Those changes are committed, so D later no answer to a
//! new request may carry lower numbers: it is counted, and logged, if one does. There are no false alarms.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use prometheus_client::{
    metrics::{
        counter::Counter,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{
    clock::Clock,
    entry::Label,
    fence::{Era, Fence},
    key::Name,
    ledger,
    pool::ConnectionPool,
};

/// One in so many answers is looked at.
const SAMPLE: u32 = 16;
/// Names that are followed at a time.
const MOST_NAMES: usize = 500;
/// Pause between two readings of their numbers.
const PAUSE: Duration = Duration::from_secs(1);

/// An answer as the meter sees it.
pub(super) struct Served<'a> {
    pub(super) labels: &'a [Label],
    /// Number of the era that the labels belong to.
    pub(super) era: u64,
    /// Time since the database was read.
    pub(super) age: Duration,
    /// When the request for it began, by the instance's clock.
    pub(super) begun: Duration,
}

/// What no answer may be below.
#[derive(Default)]
struct Demand {
    numbers: HashMap<Name, i64>,
    era: u64,
    /// The requests it holds for, by when they begin: at the end there is a newer one, unless the database is away.
    holds: Range<Duration>,
}

pub(super) struct Meter {
    demand: RwLock<Demand>,
    /// Names to read next.
    lately: Mutex<HashSet<Name>>,
    checked: Counter,
    stale: Counter,
    age: Histogram,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            demand: RwLock::default(),
            lately: Mutex::default(),
            checked: Counter::default(),
            stale: Counter::default(),
            age: Histogram::new(exponential_buckets(0.001, 4.0, 12)),
        }
    }

    /// Looks at one in some answers.
    pub(super) fn sample(&self, served: &Served<'_>) {
        if fastrand::u32(..SAMPLE) == 0 {
            self.check(served);
        }
    }

    fn check(&self, served: &Served<'_>) {
        self.age.observe(served.age.as_secs_f64());
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_NAMES.saturating_sub(lately.len());
        lately.extend(served.labels.iter().take(room).map(|label| label.name.clone()));
        drop(lately);

        let demand = self.demand.read().unwrap_or_else(PoisonError::into_inner);
        if served.era != demand.era || !demand.holds.contains(&served.begun) {
            return;
        }
        let compared = |label: &Label| demand.numbers.get(&label.name).map(|number| label.version.cmp(number));
        let worst =
            served.labels.iter().filter_map(|label| Some((compared(label)?, label))).min_by_key(|(how, _)| *how);
        let Some((how, label)) = worst else { return };
        self.checked.inc();
        if how == Ordering::Less {
            self.stale.inc();
            tracing::error!(pattern = label.name.pattern(), "an answer was older than promised");
        }
    }

    /// Reads the numbers of what was served lately, again and again.
    pub(super) async fn run(&self, db: &ConnectionPool, fence: &Fence, clock: &Clock) {
        loop {
            // A demand begins to hold after D, so the next one must not take its place before.
            let pause = PAUSE.max(2 * fence.trust());
            tokio::time::sleep(pause).await;
            let names = std::mem::take(&mut *self.lately.lock().unwrap_or_else(PoisonError::into_inner));
            let era = fence.era();
            // When the database can't be asked, what is known already goes on holding.
            if let Ok((life, numbers)) = ledger::numbers_now(db, names).await {
                let from = clock.now() + fence.trust();
                self.demand(&era, &life, numbers, from..from + 2 * pause);
            }
        }
    }

    fn demand(&self, era: &Era, life: &str, numbers: Vec<Label>, holds: Range<Duration>) {
        if *era.name == *life {
            let numbers = numbers.into_iter().map(|label| (label.name, label.version)).collect();
            *self.demand.write().unwrap_or_else(PoisonError::into_inner) = Demand { numbers, era: era.number, holds };
        }
    }

    /// How many answers were compared, and how many of them were older than promised.
    pub(super) fn seen(&self) -> (u64, u64) {
        (self.checked.get(), self.stale.get())
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Served answers that were compared with the database";
        registry.register("cache_served_checked", help, self.checked.clone());
        registry.register("cache_stale_served", "Of these, answers older than promised: must be 0", self.stale.clone());
        let help = "Age of served answers, a sample";
        registry.register_with_unit("cache_served_age", help, Unit::Seconds, self.age.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Duration = Duration::from_secs(5);

    fn label(version: i64) -> Label {
        Label { name: Name::from_ledger("product:1"), version }
    }

    /// A meter that demands number 7, and what it has seen after it was shown this answer.
    fn after(version: i64, era: u64, begun: Duration) -> (u64, u64) {
        let meter = Meter::new();
        meter.demand(&Era { number: 3, name: "life".into() }, "life", vec![label(7)], FROM..FROM + 2 * PAUSE);
        meter.check(&Served { labels: &[label(version)], era, age: Duration::ZERO, begun });
        meter.seen()
    }

    #[test]
    fn an_answer_below_what_was_committed_d_before_is_counted() {
        assert_eq!(after(6, 3, FROM), (1, 1));
        assert_eq!(after(7, 3, FROM), (1, 0));
        assert_eq!(after(8, 3, FROM), (1, 0));
    }

    #[test]
    fn what_began_earlier_or_much_later_or_belongs_to_another_era_is_not_compared() {
        assert_eq!(after(6, 3, FROM - Duration::from_nanos(1)), (0, 0));
        assert_eq!(after(6, 3, FROM + 2 * PAUSE), (0, 0));
        assert_eq!(after(6, 2, FROM), (0, 0));
    }

    #[test]
    fn numbers_of_another_life_of_the_database_demand_nothing() {
        let meter = Meter::new();
        meter.demand(&Era { number: 3, name: "life".into() }, "another", vec![label(7)], FROM..FROM + 2 * PAUSE);
        meter.check(&Served { labels: &[label(6)], era: 3, age: Duration::ZERO, begun: FROM });
        assert_eq!(meter.seen(), (0, 0));
    }
}
