//! The present state of an instance's cache: whether the tiers are used, and the health of L2.

use std::time::Duration;

use sqlx::Connection;

use crate::{BreakerState, Cache, MemoryState, entry::DbTime};

/// The time limit for the check of the database. Most of it would be spent waiting for a
/// connection.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether an instance can answer requests, and how well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheReadiness {
    /// Whether the database answered within a second. Without it, only hits and stale answers are
    /// left.
    pub database: bool,
    /// Whether the tiers may be used. If not, every read is a load.
    pub is_current: bool,
    /// Whether L2 answered within its deadline. `None` without an L2. An instance serves without
    /// it, so an L2 that is down is no reason to take all instances out of service.
    pub l2: Option<bool>,
    /// How full the fullest node of L2 is, as of the last poll. `None` if it is not known.
    pub l2_memory: Option<MemoryState>,
}

impl CacheReadiness {
    /// Whether the instance should get requests: the database answers.
    pub fn is_ready(&self) -> bool {
        self.database
    }
}

impl Cache {
    /// Asks the database and L2 whether they answer, at the same time. It takes a second at most,
    /// for the readiness probe of an orchestrator.
    ///
    /// ```no_run
    /// # use aside_cache::Cache;
    /// # async fn example(cache: Cache) {
    /// let readiness = cache.readiness().await;
    /// let status = if readiness.is_ready() { 200 } else { 503 };
    /// # }
    /// ```
    pub async fn readiness(&self) -> CacheReadiness {
        let ping = async { self.inner.db.acquire().await?.ping().await };
        let (database, l2) = tokio::join!(tokio::time::timeout(DATABASE_TIMEOUT, ping), self.ping_l2());
        let database = matches!(database, Ok(Ok(())));
        CacheReadiness { database, is_current: self.is_current(), l2, l2_memory: self.l2_memory() }
    }

    /// Waits until the tiers may be used, for `limit` at most, and returns whether they may. After
    /// the start of an instance it takes a few polls of the ledger. Requests may come earlier:
    /// their reads are loads.
    pub async fn wait_until_current(&self, limit: Duration) -> bool {
        self.inner.freshness.wait_for_within(DbTime(i64::MIN), limit).await
    }

    /// How full the fullest node of L2 is, as of the last poll. `None` without an L2, or if it
    /// reports nothing.
    pub fn l2_memory(&self) -> Option<MemoryState> {
        self.inner.pressure.l2()
    }

    /// The same, from a poll that is sent now.
    pub async fn l2_memory_now(&self) -> Option<MemoryState> {
        if let Some(l2) = &self.inner.l2 {
            self.inner.pressure.poll(l2).await;
        }
        self.l2_memory()
    }

    /// Whether the tiers may be used at the moment.
    pub fn is_current(&self) -> bool {
        self.inner.freshness.is_current()
    }

    /// The state of L2's circuit breaker. `None` without an L2.
    pub fn l2_breaker(&self) -> Option<BreakerState> {
        self.inner.l2.as_ref().map(|l2| l2.breaker())
    }

    /// Returns when the breaker finds L2 healthy again after it was unhealthy. Never returns
    /// without an L2. It serves one waiting task.
    pub async fn l2_recovered(&self) {
        match &self.inner.l2 {
            Some(l2) => l2.recovered().await,
            None => std::future::pending().await,
        }
    }

    /// Whether L2 answers a ping now. `None` without an L2.
    pub async fn ping_l2(&self) -> Option<bool> {
        match &self.inner.l2 {
            Some(l2) => Some(l2.ping().await.is_ok()),
            None => None,
        }
    }
}
