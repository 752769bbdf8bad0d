//! The floors of an instance. A floor is the lowest version of a tag that this instance may still
//! serve. The floors are a max-map, so order, repetition and batching of changes make no
//! difference. A floor is kept for as long as an entry below it may exist. When there are too many
//! floors, one common floor is raised, and then the floors that it covers are removed.
//!
//! A wildcard (`product:*`) has no version to compare, so its floor is a moment. An answer that the
//! wildcard covers is refused if it was read before that moment.

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

use crate::{
    entry::{DbTime, TagVersion},
    key::Tag,
};

const SHARDS: usize = 64;
/// The largest number of tags whose changes may have been committed.
const MAX_UNCERTAIN: usize = 100;

#[derive(Clone, Copy)]
struct Floor {
    version: i64,
    raised_at: Duration,
}

struct Wildcard {
    base: String,
    version: i64,
    min_read_time: DbTime,
    raised_at: Duration,
    /// Whether the change is known to be committed.
    is_certain: bool,
}

/// The floors of one instance.
pub(crate) struct Floors {
    shards: Vec<RwLock<HashMap<Tag, Floor, RandomState>>>,
    hasher: RandomState,
    /// Answers read before this moment are refused, at any tag version.
    min_read_time: AtomicI64,
    wildcards: RwLock<Vec<Wildcard>>,
    /// Whether there are wildcards. It can be read without a lock.
    any_wildcard: AtomicBool,
    capacity: usize,
}

impl Floors {
    /// Makes an empty set of floors. It refuses everything until [`Floors::set_min_read_time`] is
    /// called.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            min_read_time: AtomicI64::new(i64::MAX),
            wildcards: RwLock::default(),
            any_wildcard: AtomicBool::new(false),
            capacity,
        }
    }

    /// Raises the floor of each tag to its version. `after` is a moment of the database after all
    /// these changes were committed.
    pub(crate) fn raise(&self, tag_versions: &[TagVersion], after: DbTime, now: Duration) {
        for TagVersion { tag, version } in tag_versions {
            if let Some(base) = tag.wildcard() {
                self.raise_wildcard(base, *version, after, now);
                continue;
            }
            let mut shard = self.shard(tag).write().unwrap_or_else(PoisonError::into_inner);
            let floor = shard.entry(tag.clone()).or_insert(Floor { version: *version, raised_at: now });
            floor.version = floor.version.max(*version);
            floor.raised_at = now;
        }
    }

    /// Whether an answer under `key`, read at `loaded_at` with these tag versions, is at or above
    /// every floor.
    pub(crate) fn permit(&self, key: &Tag, tag_versions: &[TagVersion], loaded_at: DbTime) -> bool {
        // The common floor is checked last. It is raised before other floors are removed, so a
        // check that misses a removed floor sees the raised common one.
        tag_versions.iter().all(|tag_version| tag_version.version >= self.of(&tag_version.tag))
            && !(self.any_wildcard.load(Ordering::Acquire) && self.covered(key, tag_versions, loaded_at, false))
            && loaded_at.0 >= self.min_read_time.load(Ordering::Acquire)
    }

    /// Like [`Floors::permit`], for an answer that is flagged as stale. A change that may not have
    /// been committed does not refuse it.
    pub(crate) fn permit_stale(&self, key: &Tag, tag_versions: &[TagVersion], loaded_at: DbTime) -> bool {
        tag_versions.iter().all(|tag_version| tag_version.version >= self.of(&tag_version.tag))
            && !self.covered(key, tag_versions, loaded_at, true)
            && loaded_at.0 >= self.min_read_time.load(Ordering::Acquire)
    }

    fn covered(&self, key: &Tag, tag_versions: &[TagVersion], loaded_at: DbTime, only_certain: bool) -> bool {
        let wildcards = self.wildcards.read().unwrap_or_else(PoisonError::into_inner);
        let counts = |wildcard: &&Wildcard| wildcard.is_certain || !only_certain;
        let mut newer = wildcards.iter().filter(counts).filter(|wildcard| loaded_at < wildcard.min_read_time);
        newer.any(|Wildcard { base, .. }| {
            key.matches(base) || tag_versions.iter().any(|tag_version| tag_version.tag.matches(base))
        })
    }

    fn raise_wildcard(&self, base: &str, version: i64, after: DbTime, now: Duration) {
        let mut wildcards = self.wildcards.write().unwrap_or_else(PoisonError::into_inner);
        match wildcards.iter_mut().find(|wildcard| wildcard.is_certain && wildcard.base == base) {
            // A repeated change must not refuse answers that were read since its first report.
            Some(known) if known.version >= version => {}
            Some(known) => {
                known.min_read_time = known.min_read_time.max(after);
                (known.version, known.raised_at) = (version, now);
            }
            None => wildcards.push(Wildcard {
                base: base.to_owned(),
                version,
                min_read_time: after,
                raised_at: now,
                is_certain: true,
            }),
        }
        self.any_wildcard.store(true, Ordering::Release);
    }

    /// Refuses answers that depend on a tag and were read before `moment`. It is for a change
    /// that may have been committed, so no version is known.
    pub(crate) fn raise_tag_min_read_time(&self, tag: &Tag, moment: DbTime, now: Duration) {
        let mut wildcards = self.wildcards.write().unwrap_or_else(PoisonError::into_inner);
        let uncertain = wildcards.iter().filter(|wildcard| !wildcard.is_certain);
        let (mut base, mut min_read_time) = (tag.wildcard().unwrap_or(tag.as_str()), moment);
        // Each hit looks at all of them, so too many become one that covers every tag.
        if uncertain.clone().count() >= MAX_UNCERTAIN {
            min_read_time = uncertain.map(|wildcard| wildcard.min_read_time).fold(moment, DbTime::max);
            base = "";
        }
        wildcards.retain(|wildcard| wildcard.is_certain || !(base.is_empty() || wildcard.base == base));
        let base = base.to_owned();
        wildcards.push(Wildcard { base, version: i64::MIN, min_read_time, raised_at: now, is_certain: false });
        self.any_wildcard.store(true, Ordering::Release);
    }

    /// Sets the common floor: answers read before `moment` are refused.
    pub(crate) fn set_min_read_time(&self, moment: DbTime) {
        self.min_read_time.store(moment.0, Ordering::Release);
    }

    /// Raises the common floor: answers read before `moment` are refused.
    pub(crate) fn raise_min_read_time(&self, moment: DbTime) {
        self.min_read_time.fetch_max(moment.0, Ordering::AcqRel);
    }

    /// Removes floors that were raised before `oldest`, because no entry below them is young enough
    /// to be served. If more floors than the capacity remain, it refuses everything read before
    /// `statement`. Floors raised before that statement was sent (`sent`) are then removed, because
    /// every later read has seen those changes.
    pub(crate) fn sweep(&self, oldest: Duration, sent: Duration, statement: DbTime) {
        self.retain(|floor| floor.raised_at >= oldest);
        let mut wildcards = self.wildcards.write().unwrap_or_else(PoisonError::into_inner);
        wildcards.retain(|wildcard| wildcard.raised_at >= oldest);
        self.any_wildcard.store(!wildcards.is_empty(), Ordering::Release);
        drop(wildcards);
        if self.len() > self.capacity {
            self.raise_min_read_time(statement);
            self.retain(|floor| floor.raised_at >= sent);
        }
    }

    /// Removes all floors. It refuses everything until [`Floors::set_min_read_time`] is called
    /// again.
    pub(crate) fn reset(&self) {
        self.min_read_time.store(i64::MAX, Ordering::Release);
        self.retain(|_| false);
        self.wildcards.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The number of floors.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// The floor of a tag. Without a floor, it is the lowest possible version.
    pub(crate) fn of(&self, tag: &Tag) -> i64 {
        let shard = self.shard(tag).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(tag).map_or(i64::MIN, |floor| floor.version)
    }

    fn retain(&self, keep: impl Fn(&Floor) -> bool) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|_, floor| keep(floor));
        }
    }

    fn shard(&self, tag: &Tag) -> &RwLock<HashMap<Tag, Floor, RandomState>> {
        &self.shards[self.hasher.hash_one(tag) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag_version(tag: &str, version: i64) -> TagVersion {
        TagVersion { tag: Tag::from_ledger(tag), version }
    }

    fn key() -> Tag {
        Tag::from_ledger("key")
    }

    fn open(capacity: usize) -> Floors {
        let floors = Floors::new(capacity);
        floors.set_min_read_time(DbTime(0));
        floors
    }

    #[test]
    fn floors_rise_and_never_fall_whatever_the_order() {
        let floors = open(10);
        for version in [3, 7, 5] {
            floors.raise(&[tag_version("product:1", version)], DbTime(0), Duration::ZERO);
        }
        assert!(!floors.permit(&key(), &[tag_version("product:1", 6)], DbTime(1)));
        assert!(floors.permit(&key(), &[tag_version("product:1", 7)], DbTime(1)));
        assert!(
            floors.permit(&key(), &[tag_version("product:2", 0)], DbTime(1)),
            "a tag without a floor is not refused"
        );
    }

    #[test]
    fn nothing_is_permitted_before_the_first_moment_is_known() {
        let floors = Floors::new(10);
        assert!(!floors.permit(&key(), &[], DbTime(i64::MAX - 1)));
        floors.set_min_read_time(DbTime(100));
        assert!(!floors.permit(&key(), &[], DbTime(99)));
        assert!(floors.permit(&key(), &[], DbTime(100)));
    }

    #[test]
    fn too_many_floors_become_one_common_floor_and_own_later_writes_stay() {
        let floors = open(1);
        floors.raise(&[tag_version("a", 1), tag_version("b", 2)], DbTime(0), Duration::from_secs(1));
        floors.raise(&[tag_version("c", 3)], DbTime(0), Duration::from_secs(5));
        floors.sweep(Duration::ZERO, Duration::from_secs(4), DbTime(4_000));
        assert_eq!(floors.len(), 1, "only the write that the statement may not have seen is kept by name");
        assert!(!floors.permit(&key(), &[tag_version("a", 9)], DbTime(3_999)), "read before the statement: refused");
        assert!(floors.permit(&key(), &[tag_version("a", 1)], DbTime(4_000)), "read after it: has seen those changes");
        assert!(!floors.permit(&key(), &[tag_version("c", 2)], DbTime(4_000)));
    }

    #[test]
    fn a_change_without_a_version_refuses_its_tag_until_a_moment() {
        let floors = open(10);
        floors.raise_tag_min_read_time(&Tag::from_ledger("product:1"), DbTime(100), Duration::ZERO);
        assert!(!floors.permit(&key(), &[tag_version("product:1", 9)], DbTime(99)));
        assert!(floors.permit(&key(), &[tag_version("product:1", 1)], DbTime(100)));
        assert!(floors.permit(&key(), &[tag_version("product:12", 1)], DbTime(99)), "another tag");
        assert!(floors.permit_stale(&key(), &[tag_version("product:1", 1)], DbTime(99)), "flagged as stale");
        floors.raise_tag_min_read_time(&Tag::from_ledger("product:1"), DbTime(200), Duration::ZERO);
        assert!(!floors.permit(&key(), &[tag_version("product:1", 9)], DbTime(199)), "another such change");
        let many = (2..200).map(|id| Tag::from_ledger(&format!("product:{id}")));
        many.for_each(|tag| floors.raise_tag_min_read_time(&tag, DbTime(150), Duration::ZERO));
        assert!(!floors.permit(&key(), &[tag_version("product:1", 9)], DbTime(199)), "the latest moment counts");
        let wildcards = floors.wildcards.read().unwrap().len();
        assert!(wildcards <= MAX_UNCERTAIN, "{wildcards} are kept");
    }

    #[test]
    fn a_wildcard_refuses_what_it_covers_and_was_read_before() {
        let floors = open(10);
        floors.raise(&[tag_version("product:*", 5)], DbTime(100), Duration::ZERO);
        assert!(!floors.permit(&key(), &[tag_version("product:1", 9)], DbTime(99)), "whatever its versions");
        assert!(floors.permit(&key(), &[tag_version("product:1", 1)], DbTime(100)));
        assert!(floors.permit(&key(), &[tag_version("products:1", 1)], DbTime(99)), "another pattern");
        assert!(!floors.permit(&Tag::from_ledger("product:7"), &[], DbTime(99)), "covered by its key");
        floors.raise(&[tag_version("product:*", 5)], DbTime(200), Duration::ZERO);
        assert!(floors.permit(&key(), &[tag_version("product:1", 1)], DbTime(100)), "told twice");
        floors.raise(&[tag_version("product:*", 6)], DbTime(200), Duration::ZERO);
        assert!(!floors.permit(&key(), &[tag_version("product:1", 1)], DbTime(100)), "raised again");
        floors.sweep(Duration::from_secs(1), Duration::ZERO, DbTime(0));
        assert!(
            floors.permit(&key(), &[tag_version("product:1", 9)], DbTime(99)),
            "forgotten with the floors of its time"
        );
    }
}
