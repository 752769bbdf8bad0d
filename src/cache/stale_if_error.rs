//! Fail-safe: what is served while the database can't be reached. Types whose policy allows it (the caller asks) are answered
//! with what a tier still holds, flagged as stale: never below a floor that this instance knows, so never what it knows to be deleted, and never an
//! absence. Everything else fails as its load does.

use std::{future::Future, pin::pin, time::Duration};

use super::{
    Cache, LoadError,
    key::Key,
    l1::{Hit, LocalEntry},
    outcome::Outcome,
    policy::Cacheable,
};

/// How long a read waits for its load while the database seems to be away, before it settles for a stale answer: long enough for
/// a load that works, should only the polls of the ledger fail.
const SOFT_LIMIT: Duration = Duration::from_millis(50);

impl Cache {
    /// The outcome of `read`, unless the database is away and there is a stale answer. The load that `read` has begun goes on by
    /// itself.
    pub(super) async fn or_stale<R, E, Fut>(
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
                // Who has nothing to fall back on need not wait; who has must look again after the wait.
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

    /// Whether the database is away. It is if it gives no connections, though it may go on answering on those that it gave
    /// before. Else a load that failed may have been refused just this once, so this waits until that is known.
    async fn is_database_down(&self) -> bool {
        while self.inner.freshness.maybe_down() && !self.inner.db.is_down() {
            tokio::time::sleep(SOFT_LIMIT).await;
        }
        self.inner.freshness.is_database_down() || self.inner.db.is_down()
    }

    /// What a tier holds of `key`, if it may be served stale.
    pub(super) async fn stale<T: Cacheable>(&self, key: &Key<T>) -> Option<Hit<T>> {
        let local = match self.inner.l1.get(key).filter(|local| self.may_serve_stale(key, local)) {
            Some(local) => LocalEntry::clone(&local),
            None => self.l2_unchecked(key).await.filter(|local| self.may_serve_stale(key, local))?,
        };
        Some((local, Outcome::Stale))
    }

    /// The freshness rule without its proof that floors are current, and with a longer maximal age.
    fn may_serve_stale<T: Cacheable>(&self, key: &Key<T>, local: &LocalEntry<T>) -> bool {
        let max_age = T::POLICY.max_age + T::POLICY.stale_if_error;
        local.entry.value.is_some() && self.inner.freshness.permits_stale(key.tag(), local, max_age)
    }
}
