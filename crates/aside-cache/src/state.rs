//! The present state of an instance's cache: whether the tiers are used, and the health of L2.

use super::{BreakerState, Cache, MemoryState};

impl Cache {
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
