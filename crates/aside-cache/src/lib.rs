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

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use crate::tiers::codec;
use crate::{
    admission::Admission, consistency::comparison::ValueComparison, consistency::freshness::Freshness,
    consistency::monitor::ConsistencyMonitor, consistency::poller::LedgerPoller, observe::arrivals::Arrivals,
    observe::metrics::CacheMetrics, protect::keys::Keys, protect::placement::Placement, protect::tenants::Tenants,
    read::replica::Replica, read::single_flight::SingleFlight, tiers::guard::GuardedL2, tiers::l1::L1,
    tiers::pressure::Pressure,
};
pub use crate::{
    admission::Concurrency,
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

/// The number of tags by which a subscriber of the changes may be late.
const NEWS: usize = 256;

/// The interface to all tiers. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    tenants: Arc<Tenants>,
    placement: Placement,
    /// The channel of hints.
    hints: String,
    l1: Arc<L1>,
    l1_bytes: u64,
    l2: Option<Arc<GuardedL2>>,
    freshness: Arc<Freshness>,
    single_flight: SingleFlight,
    admission: Admission,
    arrivals: Arc<Arrivals>,
    load_limit: Duration,
    request_limit: Duration,
    metrics: CacheMetrics,
    monitor: Arc<ConsistencyMonitor>,
    comparison: ValueComparison,
    pressure: Arc<Pressure>,
    clock: Clock,
    db: ConnectionPool,
    replica: Replica,
    policies: Vec<Policy>,
    recorder: Option<Arc<dyn Recorder>>,
    /// Publishes the tags whose versions have risen.
    news: broadcast::Sender<Tag>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

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
    /// The time until the end of the answer, if its load named one ([`Loaded::valid_until`]).
    pub valid_for: Option<Duration>,
    /// Whether L1 may store such answers: it exists, and this is the tenant's home region.
    pub stored: bool,
    /// The token of this answer. A read that sends it never gets an older answer, on any instance.
    pub token: Option<ConsistencyToken>,
}

impl Cache {
    /// Sets the cache up and starts polling the ledger in the background. It waits for nothing.
    /// Reads go to the database until the first poll of the ledger succeeds. `db` is a
    /// [`ConnectionPool`], best the one that loads use too, or a pool of sqlx.
    ///
    /// # Panics
    /// If a policy is regulated and there is no [`CacheConfig::recorder`].
    ///
    /// ```
    /// use aside_cache::{Cache, CacheConfig};
    ///
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let pool = sqlx::PgPool::connect_lazy("postgres://127.0.0.1:1/none").unwrap();
    /// assert!(!Cache::start(CacheConfig::default(), pool).is_current(), "not polled yet");
    /// # });
    /// ```
    pub fn start(config: CacheConfig, db: impl Into<ConnectionPool>) -> Self {
        let db = db.into();
        let CacheConfig {
            namespace,
            region,
            keys,
            l1_bytes,
            l2,
            l2_deadline,
            replica,
            max_staleness,
            poll,
            load_limit,
            request_limit,
            concurrency,
            clock,
            policies,
            recorder,
            sampled_loads,
        } = config;
        recorder::require(recorder.as_ref(), &policies);
        let longest = policies.iter().map(|policy| policy.max_age).max().unwrap_or_default();
        let l1 = Arc::new(L1::new(l1_bytes));
        let freshness = Arc::new(Freshness::new(clock.clone(), max_staleness, longest));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (single_flight, metrics, (news, _)) =
            (SingleFlight::default(), CacheMetrics::new(), broadcast::channel(NEWS));
        metrics.prepare(&policies);
        let arrivals = Arc::<Arrivals>::default();
        let poller = LedgerPoller {
            db: db.clone(),
            freshness: Arc::clone(&freshness),
            l1: Arc::clone(&l1),
            lag: Arc::clone(&metrics.lag),
            arrivals: Arc::clone(&arrivals),
            clock: clock.clone(),
            polls: Arc::clone(&metrics.polls),
            poll,
            limit: max_staleness / 2,
            news: news.clone(),
        };
        tasks.spawn(poller.run(stop.clone()));
        let l2 = l2.map(|backend| Arc::new(GuardedL2::new(backend, l2_deadline, clock.clone(), &namespace)));
        let hints = format!("{namespace}:hints");
        let most = concurrency.unwrap_or_else(|| Concurrency::of(db.inner().options().get_max_connections()));
        let admission = Admission::new(most, clock.clone(), Arc::clone(&freshness));
        let keys = Arc::new(Keys::new(keys));
        let tenants =
            Arc::new(Tenants::new(Arc::clone(&keys), admission.clone(), request_limit, clock.clone(), db.clone()));
        let inner = Inner {
            placement: Placement { namespace, region, keys, tenants: Arc::clone(&tenants) },
            tenants,
            hints,
            l1,
            l1_bytes,
            l2,
            freshness,
            single_flight,
            admission,
            arrivals,
            load_limit,
            request_limit,
            metrics,
            monitor: Arc::new(ConsistencyMonitor::new()),
            comparison: ValueComparison::new(sampled_loads, &policies),
            pressure: Arc::new(Pressure::new()),
            clock,
            db,
            replica: Replica::new(replica),
            policies,
            recorder,
            news,
            tasks,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
        };
        let cache = Self { inner: Arc::new(inner) };
        let admission = cache.inner.admission.clone();
        cache.in_background(async move { admission.watch().await });
        cache.listen_for_hints();
        cache.check_what_is_served();
        cache.watch_memory();
        cache.follow_tenants();
        cache
    }

    /// Runs a task in the background until the cache is shut down or dropped.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// Polls the ledger at once when another instance says that something changed.
    fn listen_for_hints(&self) {
        let Some(l2) = self.inner.l2.clone() else { return };
        let (freshness, channel) = (Arc::clone(&self.inner.freshness), self.inner.hints.clone());
        self.in_background(async move { l2.listen(&channel, || freshness.notify()).await });
    }

    /// Compares a sample of the served answers with the database.
    fn check_what_is_served(&self) {
        let Inner { monitor, db, freshness, clock, .. } = &*self.inner;
        let (monitor, db, freshness, clock) = (Arc::clone(monitor), db.clone(), Arc::clone(freshness), clock.clone());
        self.in_background(async move { monitor.run(&db, &freshness, &clock).await });
    }

    /// Follows how full the tiers are.
    fn watch_memory(&self) {
        let Inner { pressure, l1, l2, l1_bytes, .. } = &*self.inner;
        let (pressure, l1, l2, capacity) = (Arc::clone(pressure), Arc::clone(l1), l2.clone(), *l1_bytes);
        self.in_background(async move { pressure.run(&l1, capacity, l2.as_deref()).await });
    }

    /// Follows changes of the tenants' home regions.
    fn follow_tenants(&self) {
        let (tenants, l1) = (Arc::clone(&self.inner.tenants), Arc::clone(&self.inner.l1));
        // The entries of these tenants may have to be stored in another region now.
        self.in_background(async move { tenants.follow(|left| l1.remove_of(left)).await });
    }

    /// Loads a tenant's record, as reads of its data do. It takes a round trip to the database the
    /// first time.
    pub async fn ensure_tenant_loaded(&self, tenant: &Tenant) {
        self.inner.tenants.ensure_loaded(tenant).await;
    }

    /// Receives the tags whose versions rise from now on, on any instance, when this instance
    /// learns of it.
    pub fn changes(&self) -> broadcast::Receiver<Tag> {
        self.inner.news.subscribe()
    }

    /// The pool of the primary.
    pub fn primary(&self) -> &ConnectionPool {
        &self.inner.db
    }

    /// The policies of all cached types.
    pub fn policies(&self) -> &[Policy] {
        &self.inner.policies
    }

    /// Closes the pools of the primary and of the replica as soon as their connections are not in
    /// use.
    pub async fn close_pools(&self) {
        self.inner.db.close().await;
        self.inner.replica.close().await;
    }

    /// Stops polling the ledger and finishes fills and deletes in flight. Each ends by its own
    /// deadline.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
