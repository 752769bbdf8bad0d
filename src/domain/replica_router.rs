//! Routes loads to a replica of Postgres, if there is one, or to the primary. A replica's answer is
//! used only if it is proved to be no older than this instance may serve. A replica thus takes load
//! off the primary and weakens no guarantee, even if it lags, hangs or is down. Writes, the ledger
//! and requests for a fresh answer always use the primary.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use sqlx::PgPool;

use crate::{
    cache::{Cache, CacheMode, Cacheable, Cached, ConnectionPool, DbTime, Key, Loaded, Loader},
    domain::error::DomainError,
};

/// The longest time that a load may take on the replica before the primary is queried.
const REPLICA_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a replica is not used after it failed or lagged too far behind.
const COOLDOWN: Duration = Duration::from_secs(1);

/// The primary and optionally a replica of it. It is cheap to clone.
#[derive(Clone)]
pub struct Databases {
    pub primary: ConnectionPool,
    replica: Option<ConnectionPool>,
    health: Arc<Health>,
}

impl From<PgPool> for Databases {
    fn from(primary: PgPool) -> Self {
        Self::new(primary.into(), None)
    }
}

impl Databases {
    pub fn new(primary: ConnectionPool, replica: Option<ConnectionPool>) -> Self {
        Self { primary, replica, health: Arc::default() }
    }

    /// Closes the pools of both servers as soon as their connections are not in use.
    pub async fn close(&self) {
        self.primary.close().await;
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
    }

    /// Creates a store over each server, behind `cache`.
    pub fn reads<S>(&self, cache: &Cache, store: impl Fn(ConnectionPool) -> S) -> ReplicaRouter<S> {
        let replica = self.replica.clone().map(|db| Replica { store: store(db), health: Arc::clone(&self.health) });
        ReplicaRouter(Arc::new(Stores { cache: cache.clone(), primary: store(self.primary.clone()), replica }))
    }

    /// Registers the metrics of loads on the replica in `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        let help = "Loads on the replica of Postgres, by whether all of it was used";
        registry.register("replica_loads", help, self.health.loads.clone());
    }
}

/// The result of a load on the replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// The health of the replica, independent of the loads that were sent to it.
struct Health {
    begun: Instant,
    /// The end of the cooldown in milliseconds since `begun`; 0 if the replica is healthy.
    cooldown_until: AtomicU64,
    /// The latest read time that an answer of the replica contained. The replica has by now
    /// replayed everything before it.
    known: AtomicI64,
    loads: Family<Outcome, Counter>,
}

impl Default for Health {
    fn default() -> Self {
        let loads = Family::<Outcome, Counter>::default();
        // The counters exist from the start, as zeros.
        for result in ["used", "behind", "failed"] {
            drop(loads.get_or_create(&Outcome { result }));
        }
        Self { begun: Instant::now(), cooldown_until: AtomicU64::new(0), known: AtomicI64::new(i64::MIN), loads }
    }
}

impl Health {
    fn count(&self, result: &'static str) {
        self.loads.get_or_create(&Outcome { result }).inc();
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Returns whether the replica may be queried. After a cooldown one load queries it, and the
    /// others use the primary without waiting.
    fn allows(&self) -> bool {
        match self.cooldown_until.load(Ordering::Relaxed) {
            0 => true,
            until if self.now() < until => false,
            until => {
                let next = self.now() + COOLDOWN.as_millis() as u64;
                self.cooldown_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            }
        }
    }

    fn mark_healthy(&self) {
        if self.cooldown_until.load(Ordering::Relaxed) != 0 && self.cooldown_until.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!("the replica is used again");
        }
    }

    fn mark_unhealthy(&self, why: &dyn fmt::Display) {
        if self.cooldown_until.swap(self.now() + COOLDOWN.as_millis() as u64, Ordering::Relaxed) == 0 {
            tracing::warn!(%why, "the replica is left alone: loads go to the primary");
        }
    }
}

/// A store over the primary, and optionally the same store over a replica, behind a cache. It is
/// cheap to clone.
pub struct ReplicaRouter<S>(Arc<Stores<S>>);

struct Stores<S> {
    cache: Cache,
    primary: S,
    replica: Option<Replica<S>>,
}

struct Replica<S> {
    store: S,
    health: Arc<Health>,
}

impl<S> Clone for ReplicaRouter<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Clone + Send + Sync + 'static> ReplicaRouter<S> {
    /// The store over the primary.
    pub fn primary(&self) -> &S {
        &self.0.primary
    }

    /// Calls [`Cache::get_or_load`] with this load, on the replica or the primary.
    pub async fn get_or_load<T, L, F>(&self, key: &Key<T>, mode: CacheMode, load: L) -> Result<Cached<T>, DomainError>
    where
        T: Cacheable,
        L: Fn(S) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Loaded<T>, DomainError>> + Send + 'static,
    {
        let (stores, own) = (Arc::clone(&self.0), key.clone());
        self.0.cache.get_or_load(key, mode, move || async move { stores.load(&own, mode, load).await }).await
    }

    /// Declares how values of one type are loaded, on the replica or the primary. The arguments are
    /// their keys, the load of one value, and the load of many.
    pub fn loader<I, T, K, One, F, Many, G>(&self, key: K, one: One, many: Many) -> RoutedLoader<I, T>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        K: Fn(&I) -> Key<T> + Send + Sync + 'static,
        One: Fn(S, I) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Loaded<T>, DomainError>> + Send + 'static,
        Many: Fn(S, Vec<I>) -> G + Send + Sync + 'static,
        G: Future<Output = Result<HashMap<I, Loaded<T>>, DomainError>> + Send + 'static,
    {
        let declared = Arc::new((key, one, many));
        let loader = |mode| {
            let (own, stores, of_one) = (Arc::clone(&declared), Arc::clone(&self.0), Arc::clone(&declared));
            let (all, of_many) = (Arc::clone(&self.0), Arc::clone(&declared));
            let one = move |id: I| {
                let (stores, of) = (Arc::clone(&stores), Arc::clone(&of_one));
                async move { stores.load(&(of.0)(&id), mode, |store| (of.1)(store, id.clone())).await }
            };
            let many = move |ids| {
                let (stores, of) = (Arc::clone(&all), Arc::clone(&of_many));
                async move { stores.load_many(ids, &of.0, mode, &of.2).await }
            };
            self.0.cache.loader(move |id| (own.0)(id), one, many)
        };
        RoutedLoader { any: loader(CacheMode::Default), primary: loader(CacheMode::Reload) }
    }
}

/// The loaders of one type. It is cheap to clone.
pub struct RoutedLoader<I, T> {
    any: Loader<I, T, DomainError>,
    /// Used by requests that ask for a fresh answer.
    primary: Loader<I, T, DomainError>,
}

impl<I, T> Clone for RoutedLoader<I, T> {
    fn clone(&self) -> Self {
        Self { any: self.any.clone(), primary: self.primary.clone() }
    }
}

impl<I, T> RoutedLoader<I, T>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    T: Cacheable,
{
    /// Calls [`Loader::get`].
    pub async fn get(&self, id: I, mode: CacheMode) -> Result<Cached<T>, DomainError> {
        self.loader(mode).get(id, mode).await
    }

    /// Calls [`Loader::get_many`].
    pub async fn get_many(&self, ids: Vec<I>, mode: CacheMode) -> Result<Vec<(I, Cached<T>)>, DomainError> {
        self.loader(mode).get_many(ids, mode).await
    }

    /// Calls [`Loader::warm_many`].
    pub async fn warm_many(&self, ids: Vec<I>, mode: CacheMode) -> Result<usize, DomainError> {
        self.loader(mode).warm_many(ids, mode).await
    }

    fn loader(&self, mode: CacheMode) -> &Loader<I, T, DomainError> {
        if mode == CacheMode::Default { &self.any } else { &self.primary }
    }
}

impl<S: Clone> Stores<S> {
    async fn load<T, F>(&self, key: &Key<T>, mode: CacheMode, load: impl Fn(S) -> F) -> F::Output
    where
        T: Cacheable,
        F: Future<Output = Result<Loaded<T>, DomainError>>,
    {
        if let Some(replica) = self.replica_for(mode)
            && let Some((mut loaded, known)) = self.ask(replica, &load, |loaded| loaded.loaded_at).await
        {
            loaded.loaded_at = loaded.loaded_at.min(known);
            let used = self.cache.accepts_replica_read(key, &loaded);
            replica.health.count(if used { "used" } else { "behind" });
            if used {
                return Ok(loaded);
            }
        }
        load(self.primary.clone()).await
    }

    /// Loads several values. Values for which the replica is behind are loaded from the primary.
    async fn load_many<T, I, F>(
        &self,
        missing: Vec<I>,
        key: impl Fn(&I) -> Key<T>,
        mode: CacheMode,
        load: impl Fn(S, Vec<I>) -> F,
    ) -> F::Output
    where
        T: Cacheable,
        I: Clone + Eq + Hash,
        F: Future<Output = Result<HashMap<I, Loaded<T>>, DomainError>>,
    {
        let mut found = HashMap::new();
        let latest = |found: &HashMap<I, Loaded<T>>| {
            found.values().map(|loaded| loaded.loaded_at).max().unwrap_or(DbTime(i64::MIN))
        };
        if let Some(replica) = self.replica_for(mode)
            && let Some((said, known)) = self.ask(replica, |store| load(store, missing.clone()), latest).await
        {
            found = said;
            found.retain(|id, loaded| {
                loaded.loaded_at = loaded.loaded_at.min(known);
                self.cache.accepts_replica_read(&key(id), loaded)
            });
            let used = missing.iter().all(|id| found.contains_key(id));
            replica.health.count(if used { "used" } else { "behind" });
        }
        let left: Vec<I> = missing.into_iter().filter(|id| !found.contains_key(id)).collect();
        if !left.is_empty() {
            found.extend(load(self.primary.clone(), left).await?);
        }
        Ok(found)
    }

    /// The replica, if it may answer this read and its answer could be accepted.
    fn replica_for(&self, mode: CacheMode) -> Option<&Replica<S>> {
        self.replica.as_ref().filter(|_| mode == CacheMode::Default && self.cache.is_current())
    }

    /// Queries the replica with a short timeout. It returns the answer, and a time such that all
    /// earlier commits had reached the replica before the query. The read time in the answer itself
    /// may be later than its snapshot, because the replica replays while it reads.
    async fn ask<R, F>(
        &self,
        Replica { store, health }: &Replica<S>,
        load: impl Fn(S) -> F,
        moment: impl Fn(&R) -> DbTime,
    ) -> Option<(R, DbTime)>
    where
        F: Future<Output = Result<R, DomainError>>,
    {
        if !health.allows() {
            return None;
        }
        let known = DbTime(health.known.load(Ordering::Acquire));
        let failed: &dyn fmt::Display = match tokio::time::timeout(REPLICA_TIMEOUT, load(store.clone())).await {
            Ok(Ok(found)) => {
                let now = moment(&found);
                health.known.fetch_max(now.0, Ordering::AcqRel);
                if self.cache.exceeds_replica_lag(now) {
                    health.mark_unhealthy(&"it is far behind");
                } else {
                    health.mark_healthy();
                }
                return Some((found, known));
            }
            Ok(Err(DomainError::Database(error))) if matches!(*error, sqlx::Error::ColumnDecode { .. }) => {
                &"it can't say what it shows: it is no replica, or not any more"
            }
            Ok(Err(error)) => &error.clone(),
            Err(_) => &"it took too long",
        };
        health.count("failed");
        health.mark_unhealthy(failed);
        None
    }
}
