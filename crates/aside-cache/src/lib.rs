//! A cache of several tiers in front of Postgres in which Redis is never trusted.
#![cfg_attr(any(doc, doctest), doc = include_str!("../README.md"))]
//! # How it works
//!
//! SQL is only in `ledger.rs`, connections to Postgres only in `pool.rs`, Redis only in `redis/`,
//! Memcached only in `memcached/`, and moka only in `l1.rs`. The crate needs the tables of its own
//! [migrations][migrator], and triggers for the service's own tables.
//!
//! Postgres gives every change a version (the *ledger*). Every cached answer carries the versions
//! at which it was read (its *tag versions*). Every instance knows the lowest version that it may
//! still serve (its *floors*). Redis, its messages and its old contents can then be wrong, late or
//! lost without one stale answer.
//!
//! | word | meaning |
//! |---|---|
//! | L1, L2 | the tier in this process (moka), and the shared tier (Redis or Memcached) |
//! | tag | a piece of data, or a list, that a change can make stale, such as `product:42` |
//! | ledger | the version table in Postgres, `cache_ledger`, with one row for each tag |
//! | tag version | a number that each change raises: `TagVersion::version`, in SQL `version` |
//! | entry version | the sum of an entry's tag versions, by which L2 compares two entries |
//! | floor | the lowest version of a tag that this instance may still serve |
//! | poll | one query for the changes since the last poll; a hint asks for one at once |
//! | epoch | one run of the ledger; versions of different epochs can't be compared |
//! | load | one statement that reads data and their tag versions from the database |
//! | fill | to store a loaded value in the tiers |
//! | lease | the right to fill a key of L2; other instances wait for its holder |
//! | fresh | it may be served: it is young enough, and no tag version is below its floor |
//! | stale | not fresh: not served, or flagged while Postgres is down, if the policy allows it |
//! | absent | the known answer that a value does not exist; it is cached like a value |
//! | freshness rule | it decides whether an answer is fresh: floors, max staleness, epoch |
//! | max staleness | D: the time for which one poll proves that the floors are current |
//! | invalidate | to raise a tag's version by the commit of a write that changes its data |
//! | finish unchanged | to end a write that changes nothing; floors rise to the versions it saw |
//! | warm | to fill the tiers before the first request |
//! | permit | the right to use one connection to the database; work without one waits |
//!
//! Read on in `read.rs`, `write.rs` and `freshness.rs` (the freshness rule).
#![deny(missing_docs)]

mod admission;
mod answer;
mod background;
mod cache;
mod clock;
mod config;
mod consistency;
mod database;
mod doctor;
mod entry;
mod error;
mod expected;
mod key;
mod migrations;
mod moment;
mod observe;
mod outcome;
mod policy;
mod protect;
mod read;
mod recorder;
mod segments;
mod state;
mod tiers;
mod warmer;
mod write;

pub use crate::tiers::codec;
pub use crate::{
    admission::Concurrency,
    answer::Cached,
    cache::Cache,
    clock::Clock,
    config::CacheConfig,
    consistency::changefeed::{ChangeCursor, Changefeed, Changes},
    consistency::ledger::is_outside_transaction,
    consistency::staleness::Staleness,
    consistency::token::{CatchUp, ConsistencyToken},
    database::database_errors::{is_busy, is_conflict, is_unavailable},
    database::pool::ConnectionPool,
    database::read_at::READ_AT,
    doctor::{Finding, Severity, examine, refusals},
    entry::{DbTime, Entry, Loaded, TagVersion},
    error::Error,
    expected::{ExpectedVersion, VersionConflict},
    key::{Key, ShardedTag, Tag, Tenant},
    migrations::{MIGRATIONS, migrator},
    observe::arrivals::{Arrival, ArrivalTimes},
    observe::snapshot::{Distribution, Metric, MetricKind, MetricValue, Series},
    observe::stats::{CacheStats, EntryInspection, KeyInspection, L1Stats, PatternStats, TierInspection},
    observe::striped::{LatencyHistogram, Striped, StripedCounters},
    outcome::Outcome,
    policy::{Cacheable, Format, L1_LIFETIME_CAP, Listed, MAX_AGE_CAP, OutOfRegion, Policy, Residency, Sensitivity},
    protect::keyring::Keyring,
    protect::keys::Secret,
    read::CacheMode,
    read::get::{Get, GetMany},
    read::load::{LoadError, LoadFailure},
    read::loader::Loader,
    recorder::{Access, AccessKind, Recorder, on_behalf_of},
    segments::{Segments, is_segment},
    state::CacheReadiness,
    tiers::breaker::BreakerState,
    tiers::codec::digest,
    tiers::l2::{Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error, NodeMemory},
    tiers::pressure::{Memory, MemoryState, MemoryUse},
    warmer::{CacheWarmer, WarmerReport, WarmingResult},
    write::completion::PendingWrite,
    write::foreign::{Invalidated, invalidate_in},
    write::{Write, WriteError},
};

#[cfg(feature = "encryption")]
pub use crate::protect::keyring::{DecryptError, KeyringError};
#[cfg(feature = "memcached")]
pub use crate::tiers::memcached::MemcachedL2;
#[cfg(any(test, feature = "test-util"))]
pub use crate::tiers::memory::MemoryL2;
#[cfg(feature = "redis")]
pub use crate::tiers::redis::{RedisL2, RedisTls, RedisTopology};
#[cfg(feature = "redis")]
pub use deadpool_redis;
