//! What an instance says of its cache at the moment: whether the tiers are used, and how L2 is.

use super::{BreakerState, Cache, MemoryState};

impl Cache {
    /// How full the fullest node of L2 is, as of the last poll; `None`: there is none, or it doesn't say.
    pub fn l2_memory(&self) -> Option<MemoryState> {
        self.inner.pressure.l2()
    }

    /// The same, as of a poll that is made now.
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

    /// Whether there is an L2, and if so the state of its breaker.
    pub fn l2_breaker(&self) -> Option<BreakerState> {
        self.inner.l2.as_ref().map(|l2| l2.breaker())
    }

    /// Returns when L2 is healthy again after the breaker found it unhealthy; never without an L2. For one task that waits for it.
    pub async fn l2_recovered(&self) {
        match &self.inner.l2 {
            Some(l2) => l2.recovered().await,
            None => std::future::pending().await,
        }
    }

    /// Whether L2 answers now; `None` without one.
    pub async fn ping_l2(&self) -> Option<bool> {
        match &self.inner.l2 {
            Some(l2) => Some(l2.ping().await.is_ok()),
            None => None,
        }
    }
}
