//! Stale-if-error: the answers while the database is down. If the policy of a type allows it, which
//! the caller checks, an entry of a tier is served and flagged as stale. Such an entry is never
//! below a floor of this instance, so data that it knows to be deleted is not served. A stored
//! absence is never served stale. All other reads fail as their load does.

use std::{future::Future, pin::pin, time::Duration};

use crate::{
    Cache, LoadError,
    key::Key,
    outcome::Outcome,
    policy::Cacheable,
    tiers::l1::{Hit, LocalEntry},
};

/// How long a read waits for its load, while the database seems down, before it serves a stale
/// answer. A working load ends within this time, even if polls of the ledger fail.
const SOFT_LIMIT: Duration = Duration::from_millis(50);

impl Cache {
    /// The outcome of `read`, or a stale answer if the database is down and there is one. The load
    /// that `read` has begun continues in its own task.
    pub(crate) async fn or_stale<R, E, Fut>(
        &self,
        read: impl Future<Output = Result<R, E>>,
        stale: impl Fn() -> Fut,
    ) -> Result<R, E>
    where
        E: LoadError,
        Fut: Future<Output = Option<R>>,
    {
        let mut read = pin!(read);
        tokio::select! {
            biased;
            result = &mut read => match result {
                // If there is no stale entry, fail at once. If there is one, wait until the outage
                // is confirmed and look it up again: it may have been invalidated meanwhile.
                Err(error) if error.is_unavailable() && (!self.is_current() || self.inner.db.is_down()) => {
                    let serves_stale = stale().await.is_some() && self.is_database_down().await;
                    if serves_stale { stale().await.ok_or(error) } else { Err(error) }
                }
                result => result,
            },
            () = self.outage_confirmed() => match stale().await {
                Some(stale) => Ok(stale),
                None => read.await,
            },
        }
    }

    async fn outage_confirmed(&self) {
        loop {
            tokio::time::sleep(SOFT_LIMIT).await;
            if self.inner.freshness.is_database_down() {
                return;
            }
        }
    }

    /// Whether the database is down. It is down if it gives no new connections, even if existing
    /// ones still work. A single load may fail while the database is up, so this waits until polls
    /// of the ledger confirm or refute an outage.
    async fn is_database_down(&self) -> bool {
        while self.inner.freshness.maybe_down() && !self.inner.db.is_down() {
            tokio::time::sleep(SOFT_LIMIT).await;
        }
        self.inner.freshness.is_database_down() || self.inner.db.is_down()
    }

    /// The entry of a tier for `key`, if it may be served stale.
    pub(crate) async fn stale<T: Cacheable>(&self, key: &Key<T>) -> Option<Hit<T>> {
        let local = match self.inner.l1.get(key).filter(|local| self.may_serve_stale(key, local)) {
            Some(local) => LocalEntry::clone(&local),
            None => self.l2_unchecked(key).await.filter(|local| self.may_serve_stale(key, local))?,
        };
        Some((local, Outcome::Stale))
    }

    /// The freshness rule without the proof that the floors are current, and with a higher maximum
    /// age.
    fn may_serve_stale<T: Cacheable>(&self, key: &Key<T>, local: &LocalEntry<T>) -> bool {
        let max_age = T::POLICY.max_age + T::POLICY.stale_if_error;
        local.entry.value.is_some() && self.inner.freshness.permits_stale(key.tag(), local, max_age)
    }
}
