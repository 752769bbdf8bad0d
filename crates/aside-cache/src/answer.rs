//! The end of a read: its answer or its failure is counted, recorded and sampled.

use std::time::Duration;

use crate::{
    Cache, Cached,
    consistency::monitor::ServedSample,
    consistency::token::ConsistencyToken,
    key::Key,
    outcome::Outcome,
    policy::Cacheable,
    tiers::l1::{Hit, LocalEntry},
};

impl Cache {
    /// Counts and records a read that ended without an answer.
    pub(crate) fn count<T: Cacheable>(&self, key: &Key<T>, outcome: Outcome, begun: Duration) {
        let took = self.inner.clock.now().saturating_sub(begun);
        self.inner.metrics.read(T::POLICY.name, outcome, took);
        self.record_read(key, outcome, false);
    }

    /// Counts, records and returns the answer to a request. `stored`: whether L1 may store it.
    pub(crate) fn finish<T: Cacheable>(
        &self,
        key: &Key<T>,
        (local, outcome): Hit<T>,
        stored: bool,
        begun: Duration,
    ) -> Cached<T> {
        let LocalEntry { entry, epoch, fresh_until, .. } = local;
        let now = self.inner.clock.now();
        self.inner.metrics.read(T::POLICY.name, outcome, now.saturating_sub(begun));
        self.record_read(key, outcome, entry.value.is_some());
        let since_read = self.inner.freshness.age(entry.loaded_at, now);
        if outcome != Outcome::Stale {
            self.inner.monitor.sample(&ServedSample {
                tag_versions: &entry.tag_versions,
                epoch: epoch.number,
                age: since_read,
                begun,
            });
        }
        let age = (!outcome.is_load()).then(|| self.inner.freshness.since_validation(since_read, now));
        let token = ConsistencyToken::new(epoch, entry.snapshot_upper_bound);
        let valid_for = self.inner.freshness.left(entry.valid_until, now);
        let ttl_ms = fresh_until.as_millis() as i64 - now.as_millis() as i64;
        Cached { entry, outcome, age, since_read, ttl_ms, valid_for, stored, token }
    }

    /// Counts, records and returns the result of a lookup in the tiers, which may be `None`.
    pub(crate) fn finish_lookup<T: Cacheable>(
        &self,
        key: &Key<T>,
        found: Option<Hit<T>>,
        begun: Duration,
    ) -> Option<Cached<T>> {
        if found.is_none() {
            self.count(key, Outcome::NotCached, begun);
        }
        found.map(|found| self.finish(key, found, true, begun))
    }
}
