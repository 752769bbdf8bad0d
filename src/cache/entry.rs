//! What the tiers hold: the value, the bytes of its response, and the proof of how fresh it is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::key::Tag;

/// A moment by the database's clock: microseconds since 1970. Only Postgres makes these, so no two clocks are ever compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct DbTime(pub i64);

impl DbTime {
    /// How long ago `self` was at `now`; zero when it lies ahead.
    pub fn age_at(self, now: Self) -> Duration {
        Duration::from_micros(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// The moment `time` before this one.
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The moment `time` after this one.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// A name and its number in the ledger when a value was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagVersion {
    /// The tag.
    pub tag: Tag,
    /// Its number; 0 when nothing under the name was ever written.
    pub version: i64,
}

/// What a loader brings from the database: all of it read in one statement, so the numbers and the data belong together.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The value, or `None`: that there is none is an answer too, and is cached.
    pub value: Option<T>,
    /// Every name whose change makes this answer wrong.
    pub tag_versions: Vec<TagVersion>,
    /// A moment that is not after the snapshot of the reading statement: `now()`, or on a replica what it had certainly heard of.
    pub loaded_at: DbTime,
}

/// A cached answer. Immutable; shared between requests.
#[derive(Debug)]
pub struct Entry<T> {
    /// The decoded value; `None` for a known absence.
    pub value: Option<T>,
    /// The value as JSON: the body of the response. Empty for an absence.
    pub body: Bytes,
    /// A digest of `body`, the same on every machine: the changing part of the entity tag.
    pub digest: u64,
    /// The versions the answer was read at.
    pub tag_versions: Arc<[TagVersion]>,
    /// When the reading statement's transaction began: not after its snapshot was taken.
    pub loaded_at: DbTime,
    /// A moment that is not before its snapshot was taken.
    pub snapshot_upper_bound: DbTime,
}

impl<T> Entry<T> {
    /// The sum of the versions it was read at: of two readings that depend on the same tags, the later never has the lower one.
    /// A list's may fall when a row leaves it.
    pub fn entry_version(&self) -> i64 {
        self.tag_versions.iter().fold(0, |sum, tag_version| sum.saturating_add(tag_version.version))
    }
}
