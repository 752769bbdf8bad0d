//! The times that the last changes took to arrive at this instance. Histograms have buckets, which
//! are too coarse for a person who watches a single change.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Cache, key::Tag};

/// The number of changes that are remembered.
const REMEMBERED: usize = 1_000;

/// A change in the ledger that has arrived at this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The tag that changed.
    pub tag: Tag,
    /// Its version since the change.
    pub version: i64,
    /// An upper bound of the time from the commit to this instance's floors.
    pub delay: Duration,
}

/// How long the last thousand changes took to arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrivalTimes {
    /// The number of changes that these times are of.
    pub changes: usize,
    /// Half of the changes took no longer.
    pub median: Duration,
    /// 99 % of the changes took no longer.
    pub p99: Duration,
    /// The longest time.
    pub worst: Duration,
}

/// The last changes, the newest at the end.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<VecDeque<Arrival>>);

impl Arrivals {
    pub(crate) fn record(&self, arrival: Arrival) {
        let mut last = self.lock();
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(arrival);
    }

    fn times(&self) -> ArrivalTimes {
        let mut delays: Vec<Duration> = self.lock().iter().map(|arrival| arrival.delay).collect();
        delays.sort_unstable();
        // The nearest rank: the smallest time that at least this part of the changes took.
        let rank = |percent: usize| delays.get((delays.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        ArrivalTimes {
            changes: delays.len(),
            median: rank(50).unwrap_or_default(),
            p99: rank(99).unwrap_or_default(),
            worst: rank(100).unwrap_or_default(),
        }
    }

    fn find(&self, tag: &Tag, version: i64) -> Option<Duration> {
        let last = self.lock();
        let found = last.iter().find(|arrival| arrival.tag == *tag && arrival.version >= version);
        found.map(|arrival| arrival.delay)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// How long the last thousand changes took to arrive at this instance, as upper bounds. They
    /// are changes of all instances, its own included. A change that was committed while the
    /// database could not be polled took as long as that. Meanwhile nothing counted as fresh.
    pub fn arrival_times(&self) -> ArrivalTimes {
        self.inner.arrivals.times()
    }

    /// How long this version of a tag, or a later one, took to arrive at this instance. `None` if
    /// it has not arrived, or a thousand other changes have arrived since.
    pub fn arrival_of(&self, tag: &Tag, version: i64) -> Option<Duration> {
        self.inner.arrivals.find(tag, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(name: &str, version: i64, millis: u64) -> Arrival {
        Arrival { tag: Tag::from_ledger(name), version, delay: Duration::from_millis(millis) }
    }

    #[test]
    fn times_are_those_that_were_measured_and_not_bounds_of_buckets() {
        let arrivals = Arrivals::default();
        assert_eq!(arrivals.times(), ArrivalTimes::default());
        (1..=200).rev().for_each(|at| arrivals.record(arrived("product:1", at, at as u64)));
        let millis = Duration::from_millis;
        let expected = ArrivalTimes { changes: 200, median: millis(100), p99: millis(198), worst: millis(200) };
        assert_eq!(arrivals.times(), expected);
    }

    #[test]
    fn a_change_is_found_by_its_version_or_a_later_one_and_forgotten_in_the_end() {
        let arrivals = Arrivals::default();
        arrivals.record(arrived("product:1", 7, 16));
        let find = |version| arrivals.find(&Tag::from_ledger("product:1"), version);
        assert_eq!(
            (find(7), find(6), find(8)),
            (Some(Duration::from_millis(16)), Some(Duration::from_millis(16)), None)
        );
        (0..REMEMBERED).for_each(|at| arrivals.record(arrived("product:2", at as i64, 1)));
        assert_eq!((find(7), arrivals.times().changes), (None, REMEMBERED));
    }
}
