//! Striped counters: no cache line is written by all cores. Up to sixteen threads have a slot of
//! their own, and a reader sums up the slots. They are for events of every request. `counters.rs`
//! has those of rarer events.

use std::{
    array::from_fn,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::observe::snapshot::Distribution;

/// The number of slots. More threads than this share slots, which is slower but still exact.
const SLOTS: usize = 16;

/// A slot. Its alignment keeps it out of the cache lines of other slots.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot<T>(T);

/// One `T` for each slot.
#[derive(Debug)]
pub struct Striped<T>(Box<[Slot<T>]>);

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| Slot::default()).collect())
    }
}

impl<T> Striped<T> {
    /// The slot of this thread. Slots are assigned to threads in turn.
    pub fn local(&self) -> &T {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SLOT: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS;
        }
        &self.0[SLOT.with(|slot| *slot)].0
    }

    /// All slots.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|slot| &slot.0)
    }
}

/// `N` counters that only grow.
///
/// ```
/// use aside_cache::StripedCounters;
///
/// let requests = StripedCounters::<2>::default();
/// requests.add(0, 1);
/// assert_eq!((requests.sum(0), requests.sum(1)), (1, 0));
/// ```
#[derive(Debug)]
pub struct StripedCounters<const N: usize>(Striped<Counters<N>>);

#[derive(Debug)]
struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Default for StripedCounters<N> {
    fn default() -> Self {
        Self(Striped::default())
    }
}

impl<const N: usize> StripedCounters<N> {
    /// Adds to the counter at `index`.
    pub fn add(&self, index: usize, amount: u64) {
        self.0.local().0[index].fetch_add(amount, Ordering::Relaxed);
    }

    /// The value of the counter at `index`.
    pub fn sum(&self, index: usize) -> u64 {
        self.0.all().map(|numbers| numbers.0[index].load(Ordering::Relaxed)).sum()
    }
}

/// Upper bounds of the buckets of [`LatencyHistogram`] in nanoseconds, from 1 µs to 8.4 s. Each
/// bound is twice the previous one.
const BOUNDS: [u64; 24] = {
    let mut bounds = [1_000; 24];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = 2 * bounds[at - 1];
        at += 1;
    }
    bounds
};
/// The index of the sum. It follows the buckets and the overflow bucket.
const SUM: usize = BOUNDS.len() + 1;

/// A histogram of durations.
///
/// ```
/// use aside_cache::LatencyHistogram;
/// use std::time::Duration;
///
/// let durations = LatencyHistogram::default();
/// durations.observe(Duration::from_millis(3));
/// assert_eq!(durations.distribution().count(), 1);
/// ```
#[derive(Debug, Default)]
pub struct LatencyHistogram(StripedCounters<{ SUM + 1 }>);

impl LatencyHistogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.add(BOUNDS.partition_point(|bound| *bound < nanos), 1);
        self.0.add(SUM, nanos);
    }

    /// Upper bounds in microseconds, without the overflow bucket.
    pub fn bounds_us() -> impl Iterator<Item = u64> {
        BOUNDS.into_iter().map(|bound| bound / 1_000)
    }

    /// The number of durations in each bucket.
    pub fn counts(&self) -> [u64; SUM] {
        from_fn(|bucket| self.0.sum(bucket))
    }

    /// Whether any duration was counted.
    pub fn any(&self) -> bool {
        self.counts().iter().any(|count| *count > 0)
    }

    /// The counts so far, in seconds.
    pub fn distribution(&self) -> Distribution {
        let bounds = BOUNDS.into_iter().map(Duration::from_nanos);
        Distribution::new(bounds, self.counts().into_iter(), self.0.sum(SUM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_of_any_thread_is_lost() {
        let counts = StripedCounters::<2>::default();
        std::thread::scope(|threads| {
            for _ in 0..2 * SLOTS {
                threads.spawn(|| (0..1_000).for_each(|_| counts.add(1, 3)));
            }
        });
        assert_eq!((counts.sum(0), counts.sum(1)), (0, 2 * SLOTS as u64 * 3_000));
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        for (nanos, bucket) in [(0, 0), (1_000, 0), (1_001, 1), (2_000, 1), (u64::MAX, BOUNDS.len())] {
            let durations = LatencyHistogram::default();
            durations.observe(Duration::from_nanos(nanos));
            assert_eq!((durations.0.sum(bucket), durations.0.sum(SUM)), (1, nanos), "{nanos}");
        }
    }
}
