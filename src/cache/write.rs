//! The write path, from top to bottom: begin, change, name what changed, commit, invalidate.
//!
//! The invalidation is part of the commit: the numbers of the touched names rise in the write's own transaction. After the
//! commit and before the reply the instance raises its own floors, so it never again serves what the write made old; other
//! instances learn of it by their tails. Deleting from L2 only keeps it tidy: nothing is lost when it fails.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::{PgConnection, Postgres, Transaction};
use tracing::Instrument;

use super::{
    Cache, Key,
    bulkhead::Room,
    entry::Label,
    key::{Name, Tenant},
    l2::Invalidation,
    ledger,
    shared::l2_result,
    spans,
};

/// A write in progress: a transaction that also collects the names it changes. Dropped, it is rolled back.
pub struct Write {
    cache: Cache,
    transaction: Transaction<'static, Postgres>,
    touched: BTreeSet<Name>,
    _room: Room,
}

/// Writes that an instance has under way at a time, whether somebody waits for them or not. More are refused.
const WRITES: usize = 128;

impl Cache {
    /// Begins a write.
    ///
    /// # Errors
    /// When the database can't be reached, or too many writes are under way already, which is the same to the caller.
    pub async fn begin(&self) -> Result<Write, sqlx::Error> {
        let room = self.inner.bulkhead.enter("writes", None, WRITES).ok_or(sqlx::Error::PoolTimedOut)?;
        let transaction = ledger::begin(&self.inner.db).await?;
        Ok(Write { cache: self.clone(), transaction, touched: BTreeSet::new(), _room: room })
    }

    /// Invalidates names of entities or tags, or all of a pattern ([`Name::everything`]), that something outside of the service
    /// has changed. One row for each name, however much is cached under it.
    ///
    /// # Errors
    /// When the database can't be reached. If that was in the commit, nobody knows whether it was done: do it again.
    pub async fn invalidate(&self, names: impl IntoIterator<Item = Name>) -> Result<(), sqlx::Error> {
        let mut write = self.begin().await?;
        names.into_iter().for_each(|name| write.touch(name));
        write.commit().await
    }

    /// Makes all that was ever cached of a tenant unreadable, in every tier, every copy and every backup of L2: its secret is replaced. One
    /// row in the ledger keeps the instances from serving what they hold. `false`: no such tenant was ever met, and nothing is done.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn erase(&self, tenant: &Tenant) -> Result<bool, sqlx::Error> {
        let mut write = self.begin().await?;
        if !ledger::forget_secret(write.db(), tenant).await? {
            return Ok(false);
        }
        write.touch(Name::everything_of(tenant));
        let committed = write.commit().await;
        // Also when nobody knows whether it was: the tenant is met anew then.
        self.inner.tenants.forget(tenant);
        committed.map(|()| true)
    }

    /// Removes one value from every tier of every instance: the invalidation of its name.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn delete<T>(&self, key: &Key<T>) -> Result<(), sqlx::Error> {
        self.invalidate([key.name().clone()]).await
    }
}

impl Write {
    /// The connection of the transaction. What is read through it is not from the cache, and isn't left there.
    pub fn db(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Names an entity or a tag that this write changes.
    pub fn touch(&mut self, name: Name) {
        self.touched.insert(name);
    }

    /// Raises the numbers of the touched names, commits, and makes this instance forget what was old.
    ///
    /// # Errors
    /// When the database refuses or can't be reached. The outcome of a failed commit is not known, so the instance forgets in
    /// that case too.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let span = spans::commit(self.touched.len());
        // Last in the transaction: a name's row stays locked from here to the commit.
        let raised = ledger::bump(&mut self.transaction, &self.touched).instrument(span.clone()).await?;
        let committed = self.transaction.commit().instrument(span).await;
        self.cache.inner.fence.raise(&raised, self.cache.inner.fence.db_now());
        self.cache.forget(&raised);
        committed
    }

    /// Ends a write that found done what it was to do. Nothing is raised, but this instance may be behind whoever did it, and
    /// must not answer older than what it is about to acknowledge: its floors rise to the numbers of the touched names.
    ///
    /// # Errors
    /// When the database can't be reached; then nothing may be acknowledged.
    pub async fn settle(mut self) -> Result<(), sqlx::Error> {
        let numbers = ledger::numbers(&mut self.transaction, &self.touched).await?;
        self.transaction.rollback().await?;
        self.cache.inner.fence.raise(&numbers, self.cache.inner.fence.db_now());
        Ok(())
    }
}

impl Cache {
    /// Removes what changed from L1, and from L2 in the background.
    fn forget(&self, changes: &[Label]) {
        for Label { name, .. } in changes {
            self.inner.l1.remove(name);
            self.inner.metrics.invalidated(name.pattern());
        }
        if self.inner.l2.is_none() || changes.is_empty() {
            return;
        }
        let era = self.inner.fence.era();
        let change = |label: &Label| {
            let shelf = self.inner.vault.shelf_of(&self.inner.policies, &label.name, &era)?;
            Some(Invalidation { key: shelf.key, order: label.version })
        };
        let stale: Vec<Invalidation> = changes.iter().filter_map(change).collect();
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            if let Some(l2) = &inner.l2 {
                let answer = l2.hint(&inner.hints).await;
                inner.metrics.l2_call("hint", l2_result(&answer));
                let answer = l2.invalidate(&stale).await;
                inner.metrics.l2_call("invalidate", l2_result(&answer));
            }
        });
    }
}
