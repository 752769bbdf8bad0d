//! Floors: per name, the lowest number that this instance may still serve. A max-map: order, repetition and batching of what is
//! told to it make no difference. A floor is kept for as long as an entry below it may exist; when there are too many, one
//! common floor is raised instead, never a floor dropped.
//!
//! A wildcard (`product:*`) has no number to compare, so it is a moment: what it covers is refused when it was read before.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use rapidhash::quality::RandomState;

use super::{
    entry::{DbTime, Label},
    key::Name,
};

const SHARDS: usize = 64;

#[derive(Clone, Copy)]
struct Floor {
    version: i64,
    raised_at: Duration,
}

struct Wildcard {
    base: String,
    version: i64,
    accept_from: DbTime,
    raised_at: Duration,
}

/// The floors of one instance.
pub(super) struct Floors {
    shards: Vec<RwLock<HashMap<Name, Floor, RandomState>>>,
    hasher: RandomState,
    /// Answers read before this moment are refused whatever their numbers.
    common: AtomicI64,
    wildcards: RwLock<Vec<Wildcard>>,
    /// Whether there are wildcards, to be asked without a lock.
    any_wildcard: AtomicBool,
    capacity: usize,
}

impl Floors {
    /// No floors; refuses everything until [`Floors::accept_from`] is called.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            common: AtomicI64::new(i64::MAX),
            wildcards: RwLock::default(),
            any_wildcard: AtomicBool::new(false),
            capacity,
        }
    }

    /// Raises the floor of each name to its number. `after` is a moment of the database after all these changes were committed.
    pub(super) fn raise(&self, labels: &[Label], after: DbTime, now: Duration) {
        for Label { name, version } in labels {
            if let Some(base) = name.wildcard() {
                self.raise_wildcard(base, *version, after, now);
                continue;
            }
            let mut shard = self.shard(name).write().unwrap_or_else(PoisonError::into_inner);
            let floor = shard.entry(name.clone()).or_insert(Floor { version: *version, raised_at: now });
            floor.version = floor.version.max(*version);
            floor.raised_at = now;
        }
    }

    /// Whether an answer under `key`, read at `loaded_at` with these numbers, is at or above every floor.
    pub(super) fn permit(&self, key: &Name, labels: &[Label], loaded_at: DbTime) -> bool {
        // The common floor last: it is raised before floors are dropped, so who misses a dropped floor meets it.
        labels.iter().all(|label| label.version >= self.of(&label.name))
            && !(self.any_wildcard.load(Ordering::Acquire) && self.covered(key, labels, loaded_at))
            && loaded_at.0 >= self.common.load(Ordering::Acquire)
    }

    fn covered(&self, key: &Name, labels: &[Label], loaded_at: DbTime) -> bool {
        let wildcards = self.wildcards.read().unwrap_or_else(PoisonError::into_inner);
        let mut newer = wildcards.iter().filter(|wildcard| loaded_at < wildcard.accept_from);
        newer.any(|Wildcard { base, .. }| key.is_within(base) || labels.iter().any(|label| label.name.is_within(base)))
    }

    fn raise_wildcard(&self, base: &str, version: i64, after: DbTime, now: Duration) {
        let mut wildcards = self.wildcards.write().unwrap_or_else(PoisonError::into_inner);
        match wildcards.iter_mut().find(|wildcard| wildcard.base == base) {
            // Told again, it must not refuse what was read since it was told first.
            Some(known) if known.version >= version => {}
            Some(known) => {
                known.accept_from = known.accept_from.max(after);
                (known.version, known.raised_at) = (version, now);
            }
            None => wildcards.push(Wildcard { base: base.to_owned(), version, accept_from: after, raised_at: now }),
        }
        self.any_wildcard.store(true, Ordering::Release);
    }

    /// Sets the common floor: answers read before `moment` are refused.
    pub(super) fn accept_from(&self, moment: DbTime) {
        self.common.store(moment.0, Ordering::Release);
    }

    /// Raises the common floor: answers read before `moment` are refused.
    pub(super) fn refuse_before(&self, moment: DbTime) {
        self.common.fetch_max(moment.0, Ordering::AcqRel);
    }

    /// Forgets floors that were raised before `oldest`: no entry below them is young enough to be served. When more than the
    /// capacity remain, everything read before `statement` is refused instead, and floors raised before that statement was sent
    /// (`sent`) go: whatever was read after it has seen those changes.
    pub(super) fn sweep(&self, oldest: Duration, sent: Duration, statement: DbTime) {
        self.retain(|floor| floor.raised_at >= oldest);
        let mut wildcards = self.wildcards.write().unwrap_or_else(PoisonError::into_inner);
        wildcards.retain(|wildcard| wildcard.raised_at >= oldest);
        self.any_wildcard.store(!wildcards.is_empty(), Ordering::Release);
        drop(wildcards);
        if self.len() > self.capacity {
            self.refuse_before(statement);
            self.retain(|floor| floor.raised_at >= sent);
        }
    }

    /// Forgets all, and refuses everything until [`Floors::accept_from`] is called again.
    pub(super) fn reset(&self) {
        self.common.store(i64::MAX, Ordering::Release);
        self.retain(|_| false);
        self.wildcards.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many floors are held.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// The floor of a name; the lowest number there is when it has none.
    pub(super) fn of(&self, name: &Name) -> i64 {
        let shard = self.shard(name).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(name).map_or(i64::MIN, |floor| floor.version)
    }

    fn retain(&self, keep: impl Fn(&Floor) -> bool) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|_, floor| keep(floor));
        }
    }

    fn shard(&self, name: &Name) -> &RwLock<HashMap<Name, Floor, RandomState>> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, version: i64) -> Label {
        Label { name: Name::from_ledger(name), version }
    }

    fn key() -> Name {
        Name::from_ledger("key")
    }

    fn open(capacity: usize) -> Floors {
        let floors = Floors::new(capacity);
        floors.accept_from(DbTime(0));
        floors
    }

    #[test]
    fn floors_rise_and_never_fall_whatever_the_order() {
        let floors = open(10);
        for version in [3, 7, 5] {
            floors.raise(&[label("product:1", version)], DbTime(0), Duration::ZERO);
        }
        assert!(!floors.permit(&key(), &[label("product:1", 6)], DbTime(1)));
        assert!(floors.permit(&key(), &[label("product:1", 7)], DbTime(1)));
        assert!(floors.permit(&key(), &[label("product:2", 0)], DbTime(1)), "a name without a floor is not refused");
    }

    #[test]
    fn nothing_is_permitted_before_the_first_moment_is_known() {
        let floors = Floors::new(10);
        assert!(!floors.permit(&key(), &[], DbTime(i64::MAX - 1)));
        floors.accept_from(DbTime(100));
        assert!(!floors.permit(&key(), &[], DbTime(99)));
        assert!(floors.permit(&key(), &[], DbTime(100)));
    }

    #[test]
    fn too_many_floors_become_one_common_floor_and_own_later_writes_stay() {
        let floors = open(1);
        floors.raise(&[label("a", 1), label("b", 2)], DbTime(0), Duration::from_secs(1));
        floors.raise(&[label("c", 3)], DbTime(0), Duration::from_secs(5));
        floors.sweep(Duration::ZERO, Duration::from_secs(4), DbTime(4_000));
        assert_eq!(floors.len(), 1, "only the write that the statement may not have seen is kept by name");
        assert!(!floors.permit(&key(), &[label("a", 9)], DbTime(3_999)), "read before the statement: refused");
        assert!(floors.permit(&key(), &[label("a", 1)], DbTime(4_000)), "read after it: has seen those changes");
        assert!(!floors.permit(&key(), &[label("c", 2)], DbTime(4_000)));
    }

    #[test]
    fn a_wildcard_refuses_what_it_covers_and_was_read_before() {
        let floors = open(10);
        floors.raise(&[label("product:*", 5)], DbTime(100), Duration::ZERO);
        assert!(!floors.permit(&key(), &[label("product:1", 9)], DbTime(99)), "whatever its numbers");
        assert!(floors.permit(&key(), &[label("product:1", 1)], DbTime(100)));
        assert!(floors.permit(&key(), &[label("products:1", 1)], DbTime(99)), "another pattern");
        assert!(!floors.permit(&Name::from_ledger("product:7"), &[], DbTime(99)), "covered by its key");
        floors.raise(&[label("product:*", 5)], DbTime(200), Duration::ZERO);
        assert!(floors.permit(&key(), &[label("product:1", 1)], DbTime(100)), "told twice");
        floors.raise(&[label("product:*", 6)], DbTime(200), Duration::ZERO);
        assert!(!floors.permit(&key(), &[label("product:1", 1)], DbTime(100)), "raised again");
        floors.sweep(Duration::from_secs(1), Duration::ZERO, DbTime(0));
        assert!(floors.permit(&key(), &[label("product:1", 9)], DbTime(99)), "forgotten with the floors of its time");
    }
}
