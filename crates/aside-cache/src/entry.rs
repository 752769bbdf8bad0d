//! The entries of the tiers: the value, the bytes of its response, and the proof of its freshness.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::key::Tag;

/// A moment by the database's clock: microseconds since 1970. Only Postgres makes these, so the
/// code never compares two clocks.
///
/// ```
/// use aside_cache::DbTime;
/// use std::time::Duration;
///
/// let moment = DbTime(1_795_000_000_000_000);
/// assert_eq!(moment.age_at(moment.after(Duration::from_secs(2))), Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct DbTime(pub i64);

impl DbTime {
    /// The time from `self` to `now`. It is zero if `self` is later.
    pub fn age_at(self, now: Self) -> Duration {
        Duration::from_micros(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// The moment `time` before this one.
    pub(crate) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The moment `time` after this one.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// A tag and its version in the ledger when a value was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagVersion {
    /// The tag.
    pub tag: Tag,
    /// The tag's version. It is 0 if no change of the tag was ever written.
    pub version: i64,
}

/// The result of a loader. One statement reads all of it, so the versions belong to the data.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The value. `None` says that there is none, which is an answer too and is cached.
    pub value: Option<T>,
    /// Every tag whose change makes this answer wrong.
    pub tag_versions: Vec<TagVersion>,
    /// A moment that is not after the snapshot of the reading statement. On the primary it is
    /// `now()`. On a replica it is a moment whose changes the replica has certainly received.
    pub loaded_at: DbTime,
    /// The end of the answer, from which on it is wrong although nothing changes, such as a price
    /// that is valid until midnight. No tier and no HTTP cache serves it from then on. `None` if
    /// only changes make it wrong.
    pub valid_until: Option<DbTime>,
}

/// A cached answer. It is immutable and shared between requests.
#[derive(Debug)]
pub struct Entry<T> {
    /// The decoded value. It is `None` for a known absence.
    pub value: Option<T>,
    /// The value as JSON, which is the body of the response. It is empty for an absence.
    pub body: Bytes,
    /// A digest of `body`, the same on every machine. It is the variable part of the entity tag.
    pub digest: u64,
    /// The tag versions at which the answer was read.
    pub tag_versions: Arc<[TagVersion]>,
    /// The moment at which the reading statement's transaction began. It is not after its snapshot.
    pub loaded_at: DbTime,
    /// A moment that is not before the snapshot.
    pub snapshot_upper_bound: DbTime,
    /// The end of the answer, as its load named it ([`Loaded::valid_until`]).
    pub valid_until: Option<DbTime>,
}

impl<T> Entry<T> {
    /// The sum of the tag versions of the entry. Of two reads that depend on the same tags, the
    /// later one never has the lower sum. The sum of a list may fall when a row leaves the list.
    pub fn entry_version(&self) -> i64 {
        self.tag_versions.iter().fold(0, |sum, tag_version| sum.saturating_add(tag_version.version))
    }
}
