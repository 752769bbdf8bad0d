//! The answer to a read, and its end: the answer or the failure is counted, recorded and sampled.

use std::{sync::Arc, time::Duration};

use crate::{
    Cache, Entry,
    consistency::monitor::ServedSample,
    consistency::token::ConsistencyToken,
    key::Key,
    outcome::Outcome,
    policy::Cacheable,
    tiers::l1::{Hit, LocalEntry},
};

/// An answer and its source.
#[derive(Debug)]
pub struct Cached<T> {
    /// The answer.
    pub entry: Arc<Entry<T>>,
    /// The source of the answer.
    pub outcome: Outcome,
    /// The time since the answer was last known to be current (RFC 9111, section 5.1). It counts
    /// from the read of the database, or from the poll of the ledger that proved that nothing has
    /// changed. `None` means that this request itself read the database.
    pub age: Option<Duration>,
    /// The time since the database was read, by the database's clock.
    pub since_read: Duration,
    /// The rest of the entry's lifetime in L1, in milliseconds. It is below zero after the
    /// lifetime's end.
    pub ttl_ms: i64,
    /// The time until the end of the answer, if its load named one
    /// ([`Loaded::valid_until`](crate::Loaded::valid_until)).
    pub valid_for: Option<Duration>,
    /// Whether L1 may store such answers: it exists, and this is the tenant's home region.
    pub stored: bool,
    /// The token of this answer. A read that sends it never gets an older answer, on any instance.
    pub token: Option<ConsistencyToken>,
}

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
