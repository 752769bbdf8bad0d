//! Fail-safe: what is served while the database can't be reached. Types whose policy allows it (the caller asks) are answered
//! with what a tier still holds, flagged as stale: never below a floor that this instance knows, so never what it knows to be deleted, and never an
//! absence. Everything else fails as its load does.

use std::{future::Future, pin::pin, time::Duration};

use super::{
    Cache, LoadError,
    key::Key,
    l1::{Found, Held},
    outcome::Outcome,
    policy::Cacheable,
};

/// How long a read waits for its load while the database seems to be away, before it settles for a stale answer: long enough for
/// a load that works, should only the looks at the ledger fail.
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
                Err(error) if error.is_outage() && (!self.trusted() || self.inner.db.is_down()) => {
                    let settles = stale().await.is_some() && self.is_away().await;
                    if settles { stale().await.ok_or(error) } else { Err(error) }
                }
                result => result,
            },
            () = self.outage_noticed() => match stale().await {
                Some(stale) => Ok(stale),
                None => read.await,
            },
        }
    }

    async fn outage_noticed(&self) {
        loop {
            tokio::time::sleep(SOFT_LIMIT).await;
            if self.inner.fence.in_outage() {
                return;
            }
        }
    }

    /// Whether the database is away. It is if it gives no connections, though it may go on answering on those that it gave
    /// before. Else a load that failed may have been refused just this once, so this waits until that is known.
    async fn is_away(&self) -> bool {
        while self.inner.fence.in_doubt() && !self.inner.db.is_down() {
            tokio::time::sleep(SOFT_LIMIT).await;
        }
        self.inner.fence.in_outage() || self.inner.db.is_down()
    }

    /// What a tier holds of `key`, if it may be served stale.
    pub(super) async fn stale<T: Cacheable>(&self, key: &Key<T>) -> Option<Found<T>> {
        let held = match self.inner.l1.get(key).filter(|held| self.is_tolerable(key, held)) {
            Some(held) => Held::clone(&held),
            None => self.l2_held(key).await.filter(|held| self.is_tolerable(key, held))?,
        };
        Some((held, Outcome::Stale))
    }

    /// The serve rule without its proof that floors are current, and with a longer maximal age.
    fn is_tolerable<T: Cacheable>(&self, key: &Key<T>, held: &Held<T>) -> bool {
        let max_age = T::POLICY.max_age + T::POLICY.stale_on_outage;
        held.entry.value.is_some() && self.inner.fence.tolerates(key.name(), held, max_age)
    }
}
