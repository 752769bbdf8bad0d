//! Counters and histograms by label, for events that are rarer than reads. `striped.rs` has those
//! of every read.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    fmt,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::observe::snapshot::Distribution;

/// One `M` for each label. It is made when its label is first used.
pub(crate) struct Family<L, M> {
    made: RwLock<BTreeMap<L, M>>,
    new: fn() -> M,
}

/// A counter for each label.
pub(crate) type Counters<L> = Family<L, AtomicU64>;

impl<L: Ord, M> Family<L, M> {
    pub(crate) fn new(new: fn() -> M) -> Self {
        Self { made: RwLock::default(), new }
    }

    /// Uses the `M` of a label.
    pub(crate) fn with<Q, R>(&self, label: &Q, use_it: impl FnOnce(&M) -> R) -> R
    where
        L: Borrow<Q>,
        Q: Ord + ToOwned<Owned = L> + ?Sized,
    {
        if let Some(made) = self.made.read().unwrap_or_else(PoisonError::into_inner).get(label) {
            return use_it(made);
        }
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        use_it(made.entry(label.to_owned()).or_insert_with(self.new))
    }

    /// Applies `show` to every label and its `M`, in the order of labels.
    pub(crate) fn map<R>(&self, show: impl Fn(&L, &M) -> R) -> Vec<R> {
        self.made.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(label, made)| show(label, made)).collect()
    }
}

impl<L: Ord> Counters<L> {
    /// Adds to the counter of a label. Adding 0 makes the counter known.
    pub(crate) fn add<Q>(&self, label: &Q, amount: u64)
    where
        L: Borrow<Q>,
        Q: Ord + ToOwned<Owned = L> + ?Sized,
    {
        self.with(label, |counter| counter.fetch_add(amount, Ordering::Relaxed));
    }
}

impl<L: Ord> Default for Counters<L> {
    fn default() -> Self {
        Self::new(|| AtomicU64::new(0))
    }
}

impl<L: fmt::Debug + Ord, M> fmt::Debug for Family<L, M> {
    /// Writes the labels only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.made.read().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}

/// A histogram of durations, with buckets whose upper bounds grow by a factor.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: Box<[Duration]>,
    /// One for each bound, and one for all longer durations.
    counts: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

impl Histogram {
    /// A histogram with this number of bounds, from `first` on.
    pub(crate) fn exponential(first: Duration, factor: u32, bounds: usize) -> Self {
        let bounds: Box<[_]> = std::iter::successors(Some(first), |bound| Some(*bound * factor)).take(bounds).collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, nanos: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub(crate) fn observe(&self, took: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < took);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The counts so far.
    pub(crate) fn distribution(&self) -> Distribution {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Distribution::new(self.bounds.iter().copied(), counts, self.nanos.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_includes_it() {
        for (millis, bucket) in [(0, 0), (1, 0), (2, 1), (4, 1), (16, 2), (17, 3), (1_000, 3)] {
            let histogram = Histogram::exponential(Duration::from_millis(1), 4, 3);
            histogram.observe(Duration::from_millis(millis));
            let Distribution { buckets, sum_seconds } = histogram.distribution();
            let counted: Vec<usize> = (0..buckets.len()).filter(|at| buckets[*at].1 > 0).collect();
            assert_eq!((counted, sum_seconds), (vec![bucket], millis as f64 / 1e3), "{millis} ms");
            assert_eq!(buckets.iter().map(|bucket| bucket.0).collect::<Vec<_>>(), [0.001, 0.004, 0.016, f64::INFINITY]);
        }
    }

    #[test]
    fn labels_are_counted_apart_and_zeros_are_known() {
        let counters = Counters::<String>::default();
        for (label, amount) in [("b", 2), ("a", 0), ("b", 3)] {
            counters.add(label, amount);
        }
        let shown = counters.map(|label, counter| (label.clone(), counter.load(Ordering::Relaxed)));
        assert_eq!(shown, [("a".to_owned(), 0), ("b".to_owned(), 5)]);
    }
}
