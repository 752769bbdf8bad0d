//! The write path, from top to bottom: begin, change, name what changed, commit, invalidate.
//!
//! The invalidation is part of the commit: the versions of the invalidated tags rise in the write's own transaction. After the
//! commit and before the reply the instance raises its own floors, so it never again serves what the write made old; other
//! instances learn of it by their pollers. Deleting from L2 only keeps it tidy: nothing is lost when it fails.
//!
//! A write that changes nothing tells its caller something too: that a product is gone, which version is the current one. Before
//! it is told, the floors rise to the versions of what the write saw, so this instance never takes it back.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tracing::Instrument;

use super::{
    Cache, Key,
    admission::{Kind, Permit, Refusal, Request},
    entry::TagVersion,
    key::{Tag, Tenant},
    l2::Invalidation,
    l2_read::l2_result,
    ledger, spans,
};

/// A write in progress: a transaction that also collects the names it changes. Dropped, it is rolled back.
pub struct Write {
    cache: Cache,
    transaction: Transaction<'static, Postgres>,
    invalidated: BTreeSet<Tag>,
    /// What the answer may speak of, if nothing is changed.
    observed: BTreeSet<Tag>,
    _permit: Permit,
}

/// What writes are called in metrics.
const WRITES: &str = "writes";
/// Attempts at a write before a conflict is reported.
const ATTEMPTS: u32 = 4;
/// The longest pause after the first attempt; it grows with each further one.
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// The error of a write.
pub trait WriteError: From<sqlx::Error> {
    /// Whether the database failed. Every other error refuses the write because of what the database holds, and says so.
    fn is_failure(&self) -> bool;

    /// Whether the same work, begun again, may well succeed, as [`is_conflict`](super::is_conflict) says of the database's error: it
    /// lost against another transaction, for example.
    fn is_conflict(&self) -> bool;
}

impl Cache {
    /// Does a write from begin to end. If `work` returns a value, the write is committed; if an error, it is rolled back. In
    /// both cases this instance serves nothing older afterwards than what `work` told: what it invalidated if it invalidated
    /// anything, else what it saw. It is done again when it lost against another transaction.
    ///
    /// `reads`: the tags of what `work` reads before it decides: what it locks, and what it may find to be absent.
    ///
    /// # Errors
    /// Those of `work`; and when the database fails at the begin or at the end, which of both may leave open whether the write
    /// was done.
    pub fn write<T, E, S, W>(&self, reads: S, work: W) -> impl Future<Output = Result<T, E>> + use<T, E, S, W>
    where
        S: IntoIterator<Item = Tag>,
        E: WriteError,
        W: AsyncFn(&mut Write) -> Result<T, E>,
    {
        self.write_as(None, reads, work)
    }

    /// [`Cache::write`] of a tenant. Tenants take turns, so that one that floods doesn't keep the others from writing.
    ///
    /// # Errors
    /// As [`Cache::write`].
    pub fn write_for<T, E, S, W>(
        &self,
        tenant: &Tenant,
        reads: S,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + use<T, E, S, W>
    where
        S: IntoIterator<Item = Tag>,
        E: WriteError,
        W: AsyncFn(&mut Write) -> Result<T, E>,
    {
        self.write_as(Some(tenant.clone()), reads, work)
    }

    fn write_as<T, E, S, W>(
        &self,
        tenant: Option<Tenant>,
        reads: S,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + use<T, E, S, W>
    where
        S: IntoIterator<Item = Tag>,
        E: WriteError,
        W: AsyncFn(&mut Write) -> Result<T, E>,
    {
        let (cache, reads) = (self.clone(), BTreeSet::from_iter(reads));
        async move {
            let mut attempt = 1;
            loop {
                let mut write = cache.begin_as(tenant.as_ref()).await?;
                if attempt > 1 {
                    // It may have been a prepared statement that has become useless, on this connection too.
                    write.transaction.clear_cached_statements().await?;
                }
                write.observe(reads.iter().cloned());
                let result = work(&mut write).await;
                match write.end(result).await {
                    Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                        // A random pause, so that two that met don't meet again.
                        tokio::time::sleep(CONFLICT_PAUSE.mul_f64(fastrand::f64() * f64::from(attempt))).await;
                        attempt += 1;
                    }
                    result => return result,
                }
            }
        }
    }

    /// Begins a write, which waits for its turn: writes have a share of the connections.
    ///
    /// # Errors
    /// When the database can't be reached, or has no time for the write before its client gives up.
    pub async fn begin(&self) -> Result<Write, sqlx::Error> {
        self.begin_as(None).await
    }

    async fn begin_as(&self, tenant: Option<&Tenant>) -> Result<Write, sqlx::Error> {
        let deadline = self.deadline(self.inner.clock.now());
        let request = Request { kind: Kind::Write, pattern: WRITES, tenant, deadline };
        let permit = self.admitted(request).await.map_err(|refusal| match refusal {
            Refusal::Unreachable => sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()),
            Refusal::NoTime | Refusal::TimedOut | Refusal::Full => sqlx::Error::PoolTimedOut,
        })?;
        let transaction = ledger::begin(&self.inner.db).await?;
        permit.answered();
        Ok(Write {
            cache: self.clone(),
            transaction,
            invalidated: BTreeSet::new(),
            observed: BTreeSet::new(),
            _permit: permit,
        })
    }

    /// Invalidates names of entities or tags, or all of a pattern ([`Tag::prefix`]), that something outside of the service
    /// has changed. One row for each name, however much is cached under it.
    ///
    /// # Errors
    /// When the database can't be reached. If that was in the commit, nobody knows whether it was done: do it again.
    pub async fn invalidate(&self, tags: impl IntoIterator<Item = Tag>) -> Result<(), sqlx::Error> {
        let mut write = self.begin().await?;
        tags.into_iter().for_each(|tag| write.invalidate(tag));
        write.commit().await
    }

    /// Makes all that was ever cached of a tenant unreadable, in every tier, every copy and every backup of L2: its secret is replaced. One
    /// row in the ledger keeps the instances from serving what they hold. `false`: no such tenant is known, and nothing is done.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn erase(&self, tenant: &Tenant) -> Result<bool, sqlx::Error> {
        let mut write = self.begin().await?;
        if !ledger::rotate_secret(write.conn(), tenant).await? {
            return Ok(false);
        }
        write.invalidate(Tag::of_tenant(tenant));
        let committed = write.commit().await;
        // Also when nobody knows whether it was: the tenant is loaded anew then.
        self.inner.tenants.evict(tenant);
        committed.map(|()| true)
    }

    /// Removes one value from every tier of every instance: the invalidation of its name.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn delete<T>(&self, key: &Key<T>) -> Result<(), sqlx::Error> {
        self.invalidate([key.tag().clone()]).await
    }
}

impl Write {
    /// The connection of the transaction. What is read through it is not from the cache, and isn't left there.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Names an entity or a tag that this write changes.
    pub fn invalidate(&mut self, tag: Tag) {
        self.invalidated.insert(tag);
    }

    /// Raises the versions of the invalidated tags, commits, and makes this instance forget what was old.
    ///
    /// # Errors
    /// When the database refuses or can't be reached. The outcome of a failed commit is not known, so the instance forgets in
    /// that case too.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let span = spans::commit(self.invalidated.len());
        // Last in the transaction: a name's row stays locked from here to the commit.
        let raised = ledger::bump(&mut self.transaction, &self.invalidated).instrument(span.clone()).await?;
        let committed = self.transaction.commit().instrument(span).await;
        self.cache.raise_floors(&raised);
        self.cache.evict(&raised);
        committed
    }

    /// Names what this write has read, so that its answer may speak of it.
    pub fn observe(&mut self, tags: impl IntoIterator<Item = Tag>) {
        self.observed.extend(tags);
    }

    /// Ends a write that changed nothing. Nothing is invalidated, but this instance may be behind another one that did change
    /// something, and must not answer older than what it is about to tell: its floors rise to the versions of what the write saw or
    /// touched.
    ///
    /// # Errors
    /// When the database can't be reached; then nothing may be told.
    pub async fn finish_unchanged(mut self) -> Result<(), sqlx::Error> {
        match self.raise_floors_to_observed().await {
            // The work made a refusal of a failed statement, for example of a unique violation.
            Err(error) if ledger::is_aborted(&error) => {
                self.transaction.rollback().await?;
                let mut connection = self.cache.inner.db.acquire().await?;
                let versions = ledger::versions(&mut connection, &self.observed).await?;
                self.cache.raise_floors(&versions);
                Ok(())
            }
            observed => {
                observed?;
                self.transaction.rollback().await
            }
        }
    }

    /// Ends a write by what its work came to.
    async fn end<T, E: WriteError>(mut self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) if !self.invalidated.is_empty() => self.commit().await?,
            Ok(_) => {
                self.raise_floors_to_observed().await?;
                self.transaction.commit().await?;
            }
            // Nothing was learned; the transaction is rolled back when it is dropped.
            Err(error) if error.is_failure() => {}
            Err(_) => self.finish_unchanged().await?,
        }
        result
    }

    /// Raises this instance's floors to the versions of what the write saw or invalidated. They are read after that was seen, so
    /// they are not older.
    async fn raise_floors_to_observed(&mut self) -> Result<(), sqlx::Error> {
        self.observed.append(&mut self.invalidated);
        // What was emptied or invalidated by a pattern left a version there only.
        let patterns: Vec<Tag> = self.observed.iter().flat_map(Tag::wildcards).collect();
        self.observed.extend(patterns);
        if !self.observed.is_empty() {
            let versions = ledger::versions(&mut self.transaction, &self.observed).await?;
            self.cache.raise_floors(&versions);
        }
        Ok(())
    }
}

impl Cache {
    /// From here on nothing is served that is older than these versions.
    fn raise_floors(&self, versions: &[TagVersion]) {
        self.inner.freshness.raise(versions, self.inner.freshness.db_now());
    }

    /// Removes what changed from L1, and from L2 in the background.
    fn evict(&self, changes: &[TagVersion]) {
        for TagVersion { tag, .. } in changes {
            self.inner.l1.remove(tag);
            self.inner.metrics.invalidated(tag.pattern());
        }
        if self.inner.l2.is_none() || changes.is_empty() {
            return;
        }
        let epoch = self.inner.freshness.epoch();
        let change = |tag_version: &TagVersion| {
            let slot = self.inner.placement.slot_for_tag(&self.inner.policies, &tag_version.tag, &epoch)?;
            Some(Invalidation { key: slot.key, version: tag_version.version })
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
