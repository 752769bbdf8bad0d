//! Routes loads to a replica of Postgres, if there is one, or to the primary. A replica's answer is
//! used only if it is proved to be no older than this instance may serve. A replica thus takes load
//! off the primary and weakens no guarantee, even if it lags, hangs or is down. Writes, the ledger
//! and reads that ask for a fresh answer always use the primary.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    Cache, CacheMode, ConnectionPool,
    entry::{DbTime, Loaded},
    key::Key,
    observe::counters::Counters,
    observe::snapshot::{Metric, Series},
    policy::Cacheable,
};

/// The longest time that a load may take on the replica before the primary is queried.
const REPLICA_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a replica is not used after it failed or lagged too far behind.
const COOLDOWN: Duration = Duration::from_secs(1);

/// The replica of Postgres, if there is one, with its health.
pub(crate) struct Replica {
    pool: Option<ConnectionPool>,
    health: Health,
}

impl Replica {
    pub(crate) fn new(pool: Option<ConnectionPool>) -> Self {
        Self { pool, health: Health::default() }
    }

    pub(crate) async fn close(&self) {
        if let Some(pool) = &self.pool {
            pool.close().await;
        }
    }

    /// The metric of loads on the replica.
    pub(crate) fn snapshot(&self) -> Metric {
        let help = "Loads on the replica of Postgres, by whether all of it was used";
        let series = Series::counts(&self.health.loads, |result| vec![("result", (*result).to_owned())]);
        Metric::counter("replica_loads", help, series)
    }
}

/// The health of the replica, independent of the loads that were sent to it.
struct Health {
    begun: Instant,
    /// The end of the cooldown in milliseconds since `begun`; 0 if the replica is healthy.
    cooldown_until: AtomicU64,
    /// The latest read time that an answer of the replica contained. The replica has by now
    /// replayed everything before it.
    known: AtomicI64,
    /// By result.
    loads: Counters<&'static str>,
}

impl Default for Health {
    fn default() -> Self {
        let loads = Counters::default();
        // The counters exist from the start, as zeros.
        ["used", "behind", "failed"].iter().for_each(|result| loads.add(result, 0));
        Self { begun: Instant::now(), cooldown_until: AtomicU64::new(0), known: AtomicI64::new(i64::MIN), loads }
    }
}

impl Health {
    fn count(&self, result: &'static str) {
        self.loads.add(&result, 1);
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
            tracing::warn!(%why, "the replica failed: loads use the primary for a second");
        }
    }
}

impl Cache {
    /// Runs the load of one value on the replica or the primary.
    pub(crate) async fn route<T, E, F>(
        &self,
        key: &Key<T>,
        mode: CacheMode,
        load: impl Fn(ConnectionPool) -> F,
    ) -> Result<Loaded<T>, E>
    where
        T: Cacheable,
        E: fmt::Display,
        F: Future<Output = Result<Loaded<T>, E>>,
    {
        if let Some(pool) = self.replica_for(mode)
            && let Some((mut loaded, known)) = self.ask(pool, &load, |loaded| loaded.loaded_at).await
        {
            loaded.loaded_at = loaded.loaded_at.min(known);
            let used = self.accepts_replica_read(key, &loaded);
            self.inner.replica.health.count(if used { "used" } else { "behind" });
            if used {
                return Ok(loaded);
            }
        }
        load(self.inner.db.clone()).await
    }

    /// Runs the load of several values. Values for which the replica is behind are loaded from the
    /// primary.
    pub(crate) async fn route_many<T, I, E, F>(
        &self,
        missing: Vec<I>,
        key: impl Fn(&I) -> Key<T>,
        mode: CacheMode,
        load: impl Fn(ConnectionPool, Vec<I>) -> F,
    ) -> Result<HashMap<I, Loaded<T>>, E>
    where
        T: Cacheable,
        I: Clone + Eq + Hash,
        E: fmt::Display,
        F: Future<Output = Result<HashMap<I, Loaded<T>>, E>>,
    {
        let mut found = HashMap::new();
        let latest = |found: &HashMap<I, Loaded<T>>| {
            found.values().map(|loaded| loaded.loaded_at).max().unwrap_or(DbTime(i64::MIN))
        };
        if let Some(pool) = self.replica_for(mode)
            && let Some((said, known)) = self.ask(pool, |pool| load(pool, missing.clone()), latest).await
        {
            found = said;
            found.retain(|id, loaded| {
                loaded.loaded_at = loaded.loaded_at.min(known);
                self.accepts_replica_read(&key(id), loaded)
            });
            let used = missing.iter().all(|id| found.contains_key(id));
            self.inner.replica.health.count(if used { "used" } else { "behind" });
        }
        let left: Vec<I> = missing.into_iter().filter(|id| !found.contains_key(id)).collect();
        if !left.is_empty() {
            found.extend(load(self.inner.db.clone(), left).await?);
        }
        Ok(found)
    }

    /// The replica, if it may answer this read and its answer could be accepted.
    fn replica_for(&self, mode: CacheMode) -> Option<&ConnectionPool> {
        self.inner.replica.pool.as_ref().filter(|_| mode == CacheMode::Default && self.is_current())
    }

    /// Whether a value that was read from a replica may be served as if it came from the primary.
    /// The floors must be current, the value must not be below any of them, and the replica must
    /// not be far behind.
    fn accepts_replica_read<T: Cacheable>(&self, key: &Key<T>, loaded: &Loaded<T>) -> bool {
        let max_age = T::POLICY.max_age(loaded.value.is_none());
        self.inner.freshness.accepts_replica_read(key.tag(), &loaded.tag_versions, loaded.loaded_at, max_age)
    }

    /// Queries the replica with a short timeout. It returns the answer, and a time such that all
    /// earlier commits had reached the replica before the query. The read time in the answer itself
    /// may be later than its snapshot, because the replica replays while it reads.
    async fn ask<R, E, F>(
        &self,
        pool: &ConnectionPool,
        load: impl Fn(ConnectionPool) -> F,
        moment: impl Fn(&R) -> DbTime,
    ) -> Option<(R, DbTime)>
    where
        E: fmt::Display,
        F: Future<Output = Result<R, E>>,
    {
        let health = &self.inner.replica.health;
        if !health.allows() {
            return None;
        }
        let known = DbTime(health.known.load(Ordering::Acquire));
        match tokio::time::timeout(REPLICA_TIMEOUT, load(pool.clone())).await {
            Ok(Ok(found)) => {
                let now = moment(&found);
                health.known.fetch_max(now.0, Ordering::AcqRel);
                if self.inner.freshness.exceeds_replica_lag(now) {
                    health.mark_unhealthy(&"it is far behind");
                } else {
                    health.mark_healthy();
                }
                return Some((found, known));
            }
            Ok(Err(error)) => health.mark_unhealthy(&error),
            Err(_) => health.mark_unhealthy(&"it took too long"),
        }
        health.count("failed");
        None
    }
}
