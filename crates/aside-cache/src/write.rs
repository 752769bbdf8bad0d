//! The write path, from top to bottom: begin, change, invalidate, commit, evict.
//!
//! The invalidation is part of the commit: the versions of the invalidated tags rise in the write's
//! own transaction. After the commit and before the reply the instance raises its own floors. It
//! then never serves again the versions that the write made stale. Other instances learn of the
//! write through their pollers. Deleting from L2 only frees its memory, and its failure is
//! harmless.
//!
//! A write that changes nothing has an answer too: a product is gone, or another version is the
//! current one. Before this answer is sent, the floors rise to the versions of the tags that the
//! write observed. Later answers of this instance are then not older.

pub(crate) mod completion;
pub(crate) mod foreign;
pub(crate) mod single;

use std::{collections::BTreeSet, future::Future, time::Duration};

use sqlx::{PgConnection, Postgres, Transaction};
use tracing::Instrument;

use crate::{
    Cache, Key,
    admission::{Kind, Permit, Refusal, Request},
    consistency::ledger::{self, raise},
    entry::TagVersion,
    key::{Tag, Tenant},
    observe::spans,
    tiers::l2::Invalidation,
    write::completion::{PendingWrite, run_to_completion},
};

/// A write in progress: a transaction and the tags that it invalidates. Dropping it rolls it back.
pub struct Write {
    cache: Cache,
    transaction: Transaction<'static, Postgres>,
    invalidated: BTreeSet<Tag>,
    /// The tags that the answer may depend on if nothing is changed.
    observed: BTreeSet<Tag>,
    _permit: Permit,
}

/// The name of writes in metrics.
const WRITES: &str = "writes";
/// Attempts at a write before a conflict is reported.
const ATTEMPTS: u32 = 4;
/// The longest pause after the first attempt. It grows with each further attempt.
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// Waits before another attempt. The time is random, which keeps two writes from colliding again.
async fn pause(attempt: &mut u32) {
    tokio::time::sleep(CONFLICT_PAUSE.mul_f64(fastrand::f64() * f64::from(*attempt))).await;
    *attempt += 1;
}

/// The error of a write.
pub trait WriteError: From<sqlx::Error> {
    /// Whether the database failed. All other errors are refusals, which depend on the data in the
    /// database and report it.
    fn is_failure(&self) -> bool;

    /// Whether a retry of the same work may succeed, for example because another transaction won.
    /// [`is_conflict`](crate::is_conflict) tells this for the database's error.
    fn is_conflict(&self) -> bool;
}

impl Cache {
    /// Executes a write from begin to end. The write is committed if `work` returns a value, and
    /// rolled back if it returns an error. Afterwards this instance serves nothing older than the
    /// answer of `work`. This covers the tags that `work` invalidated or, if there are none, the
    /// tags that it observed. A write that lost against another transaction is retried.
    ///
    /// The write runs in its own task when it is awaited, so it ends even if the caller is dropped.
    ///
    /// # Errors
    /// Those of `work`, and failures of the database at the begin or at the end. After an error at
    /// the end, the write may or may not be committed.
    ///
    /// ```no_run
    /// # use aside_cache::{Cache, Tag, Write};
    /// # async fn example(cache: Cache, id: i64) -> Result<(), aside_cache::Error> {
    /// cache
    ///     .write(async move |tx| {
    ///         let sql = "update products set price_cents = 89 where id = $1";
    ///         sqlx::query(sql).bind(id).execute(tx.conn()).await?;
    ///         tx.invalidate(Tag::new("product", id));
    ///         Ok(())
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn write<T, E, W>(&self, work: W) -> PendingWrite<impl Future<Output = Result<T, E>> + use<T, E, W>>
    where
        E: WriteError,
        W: AsyncFn(&mut Write) -> Result<T, E>,
    {
        self.write_as(None, work)
    }

    /// [`Cache::write`] for a tenant. Tenants take turns, so a flood of one tenant doesn't block
    /// the writes of others.
    pub fn write_for<T, E, W>(
        &self,
        tenant: &Tenant,
        work: W,
    ) -> PendingWrite<impl Future<Output = Result<T, E>> + use<T, E, W>>
    where
        E: WriteError,
        W: AsyncFn(&mut Write) -> Result<T, E>,
    {
        self.write_as(Some(tenant.clone()), work)
    }

    fn write_as<T, E, W>(
        &self,
        tenant: Option<Tenant>,
        work: W,
    ) -> PendingWrite<impl Future<Output = Result<T, E>> + use<T, E, W>>
    where
        E: WriteError,
        W: AsyncFn(&mut Write) -> Result<T, E>,
    {
        let cache = self.clone();
        PendingWrite::new(self.inner.load_limit, async move {
            let mut attempt = 1;
            loop {
                let mut write = cache.begin_as(tenant.as_ref()).await?;
                if attempt > 1 {
                    // The conflict may come from a stale prepared statement, which this connection
                    // may have too.
                    cache.inner.db.after_conflict(&mut write.transaction).await?;
                }
                let result = work(&mut write).await;
                match write.end(result).await {
                    Err(error) if error.is_conflict() && attempt < ATTEMPTS => pause(&mut attempt).await,
                    result => return result,
                }
            }
        })
    }

    /// Begins a write. It waits for its turn, because writes have a share of the connections.
    ///
    /// # Errors
    /// If the database can't be reached, or has no time for the write before its client gives up.
    pub async fn begin(&self) -> Result<Write, sqlx::Error> {
        self.begin_as(None).await
    }

    /// Waits for a permit to write.
    async fn write_permit(&self, tenant: Option<&Tenant>) -> Result<Permit, sqlx::Error> {
        let deadline = self.deadline(self.inner.clock.now());
        let request = Request { kind: Kind::Write, pattern: WRITES, tenant, deadline };
        self.admitted(request).await.map_err(|refusal| match refusal {
            Refusal::Unreachable => sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()),
            Refusal::NoTime | Refusal::TimedOut | Refusal::Full => sqlx::Error::PoolTimedOut,
        })
    }

    async fn begin_as(&self, tenant: Option<&Tenant>) -> Result<Write, sqlx::Error> {
        let permit = self.write_permit(tenant).await?;
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

    /// Invalidates tags, or all tags of a pattern ([`Tag::prefix`]), after a change outside of the
    /// service. It writes one row for each tag, however many entries depend on it.
    ///
    /// # Errors
    /// If the database can't be reached. If the commit failed, the invalidation may or may not be
    /// committed: repeat it.
    pub async fn invalidate(&self, tags: impl IntoIterator<Item = impl Into<Tag>>) -> Result<(), sqlx::Error> {
        let (cache, tags): (_, Vec<Tag>) = (self.clone(), tags.into_iter().map(Into::into).collect());
        let work = async move {
            let mut write = cache.begin().await?;
            tags.into_iter().for_each(|tag| write.invalidate(tag));
            write.commit().await
        };
        run_to_completion(self.inner.load_limit, work).await
    }

    /// Makes all cached data of a tenant unreadable, in every tier and in every copy or backup of
    /// L2, by replacing its secret. One row in the ledger keeps the instances from serving their
    /// entries. Returns `false` and does nothing if the tenant is not known.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn erase(&self, tenant: &Tenant) -> Result<bool, sqlx::Error> {
        let (cache, tenant) = (self.clone(), tenant.clone());
        let work = async move {
            let mut write = cache.begin().await?;
            if !ledger::rotate_secret(write.conn(), &tenant).await? {
                return Ok(false);
            }
            write.invalidate(Tag::all_of(&tenant));
            let committed = write.commit().await;
            // Also if the commit may have failed, because the tenant is then loaded again.
            cache.inner.tenants.evict(&tenant);
            committed.map(|()| true)
        };
        run_to_completion(self.inner.load_limit, work).await
    }

    /// Removes one value from every tier of every instance, by invalidating its tag.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn delete<T>(&self, key: &Key<T>) -> Result<(), sqlx::Error> {
        self.invalidate([key]).await
    }
}

impl Write {
    /// The connection of the transaction. Reads through it bypass the cache and don't fill it.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Invalidates a tag, or the value of a key, when this write commits.
    pub fn invalidate(&mut self, tag: impl Into<Tag>) {
        self.invalidated.insert(tag.into());
    }

    /// Invalidates several tags when this write commits.
    pub fn invalidate_all(&mut self, tags: impl IntoIterator<Item = impl Into<Tag>>) {
        self.invalidated.extend(tags.into_iter().map(Into::into));
    }

    /// Raises the versions of the invalidated tags, commits, and evicts stale entries of this
    /// instance.
    ///
    /// # Errors
    /// If the database refuses or can't be reached. The outcome of a failed commit is unknown, so
    /// the entries are evicted in that case too.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let span = spans::commit(self.invalidated.len());
        // Last in the transaction, because the ledger row of each tag is locked from here to the
        // commit.
        let raised = raise::bump(&mut self.transaction, &self.invalidated).instrument(span.clone()).await?;
        self.cache.inner.db.before_end(&mut self.transaction).await?;
        let committed = self.transaction.commit().instrument(span).await;
        self.cache.apply(&raised);
        committed
    }

    /// Records tags that this write reads before it decides: the rows that it locks, and those
    /// that may be absent. Its answer may depend on them if it changes nothing.
    pub fn observe(&mut self, tags: impl IntoIterator<Item = impl Into<Tag>>) {
        self.observed.extend(tags.into_iter().map(Into::into));
    }

    /// Ends a write that changed nothing. It invalidates no tag. This instance may lag behind
    /// another one that made a change, and must not serve later answers that are older than this
    /// one. Its floors therefore rise to the versions of all tags that the write observed or
    /// invalidated.
    ///
    /// # Errors
    /// If the database can't be reached. No answer may be sent then.
    pub async fn finish_unchanged(mut self) -> Result<(), sqlx::Error> {
        match self.raise_floors_to_observed().await {
            // The work turned a failed statement into a refusal, for example a unique violation.
            Err(error) if ledger::is_aborted(&error) => {
                self.cache.inner.db.before_end(&mut self.transaction).await?;
                self.transaction.rollback().await?;
                self.cache.raise_floors_to_current(&self.observed).await
            }
            observed => {
                observed?;
                self.cache.inner.db.before_end(&mut self.transaction).await?;
                self.transaction.rollback().await
            }
        }
    }

    /// Ends a write according to the result of its work.
    async fn end<T, E: WriteError>(mut self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) if !self.invalidated.is_empty() => self.commit().await?,
            Ok(_) => {
                self.raise_floors_to_observed().await?;
                self.cache.inner.db.before_end(&mut self.transaction).await?;
                self.transaction.commit().await?;
            }
            // A failure reveals no data. Dropping the transaction rolls it back.
            Err(error) if error.is_failure() => {
                if let Err(error) = self.cache.inner.db.before_end(&mut self.transaction).await {
                    tracing::debug!(%error, "the statements of a failed write could not be closed");
                }
            }
            Err(_) => self.finish_unchanged().await?,
        }
        result
    }

    /// Raises this instance's floors to the versions of the tags that the write observed or
    /// invalidated. The versions are read after the data, so they are not older.
    async fn raise_floors_to_observed(&mut self) -> Result<(), sqlx::Error> {
        self.observed.append(&mut self.invalidated);
        self.observed = with_wildcards(std::mem::take(&mut self.observed));
        if !self.observed.is_empty() {
            let retention = self.cache.inner.freshness.retention();
            let versions = ledger::versions(&mut self.transaction, &self.observed, retention).await?;
            self.cache.raise_floors(&versions);
        }
        Ok(())
    }
}

/// These tags with the wildcards that match them. A tag that was invalidated by a pattern or a
/// truncation has its version in the wildcard's row only.
fn with_wildcards(mut tags: BTreeSet<Tag>) -> BTreeSet<Tag> {
    let wildcards: Vec<Tag> = tags.iter().flat_map(Tag::wildcards).collect();
    tags.extend(wildcards);
    tags
}

impl Cache {
    /// Applies a commit to this instance: it serves nothing older from now on.
    pub(crate) fn apply(&self, raised: &[TagVersion]) {
        self.raise_floors(raised);
        self.evict(raised);
        self.record_invalidations(raised);
    }

    /// Raises this instance's floors to the present versions of tags.
    async fn raise_floors_to_current(&self, tags: &BTreeSet<Tag>) -> Result<(), sqlx::Error> {
        let mut reading = self.inner.db.begin_with("begin").await?;
        let versions = ledger::versions(&mut reading, tags, self.inner.freshness.retention()).await?;
        self.inner.db.before_end(&mut reading).await?;
        reading.rollback().await?;
        self.raise_floors(&versions);
        Ok(())
    }

    /// Raises the floors, so that no older version is served from now on.
    pub(crate) fn raise_floors(&self, versions: &[TagVersion]) {
        self.inner.freshness.raise(versions, self.inner.freshness.db_now());
    }

    /// Removes the changed entries from L1 at once, and from L2 in the background.
    pub(crate) fn evict(&self, changes: &[TagVersion]) {
        for TagVersion { tag, .. } in changes {
            self.inner.l1.remove(tag);
            self.inner.metrics.invalidated(tag.pattern());
        }
        let Some(l2) = self.inner.l2.clone().filter(|_| !changes.is_empty()) else { return };
        let epoch = self.inner.freshness.epoch();
        let change = |tag_version: &TagVersion| {
            let slot = self.inner.placement.slot_for_tag(&self.inner.policies, &tag_version.tag, &epoch)?;
            Some(Invalidation { key: slot.key, version: tag_version.version })
        };
        let stale: Vec<Invalidation> = changes.iter().filter_map(change).collect();
        let hints = self.inner.hints.clone();
        self.inner.background.finish(async move {
            // Other instances learn of the change from the ledger too, and reject the entries that L2 keeps.
            let _ = l2.hint(&hints).await;
            let _ = l2.invalidate(&stale).await;
        });
    }
}
