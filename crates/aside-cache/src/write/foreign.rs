//! Writes in a transaction that the cache did not begin, for example one that the service's
//! middleware begins for each request.
//!
//! The invalidation is part of that transaction, as in [`Cache::write`]. No instance serves older
//! data than D allows, even if the process ends right after the commit. [`Cache::committed`] also
//! raises the floors of this instance, so its next read is not older than the write. Triggers on
//! the tables keep working in such a transaction.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::{Cache, consistency::ledger::raise, entry::TagVersion, key::Tag};

/// Tags whose versions a transaction raises. Give it to [`Cache::committed`] after the commit.
#[derive(Clone, Debug)]
#[must_use = "after the commit, this instance must learn of it by `Cache::committed`"]
pub struct Invalidated(Vec<TagVersion>);

impl Invalidated {
    /// The tags, with the versions that the commit gives them.
    pub fn tag_versions(&self) -> &[TagVersion] {
        &self.0
    }
}

/// Invalidates tags in the transaction of `db`, when it commits. Call it once, as the last
/// statement: other writers of the same tags wait until the transaction ends.
///
/// # Errors
/// If the statement fails. The transaction can then only be rolled back.
///
/// ```no_run
/// # use aside_cache::{Cache, Tag, invalidate_in};
/// # async fn example(cache: Cache, pool: sqlx::PgPool) -> Result<(), sqlx::Error> {
/// let mut tx = pool.begin().await?;
/// sqlx::query("update products set price_cents = 89 where id = 7").execute(&mut *tx).await?;
/// let invalidated = invalidate_in(&mut tx, [Tag::new("product", 7)]).await?;
/// tx.commit().await?;
/// cache.committed(&invalidated);
/// # Ok(())
/// # }
/// ```
pub async fn invalidate_in(
    db: &mut PgConnection,
    tags: impl IntoIterator<Item = impl Into<Tag>>,
) -> Result<Invalidated, sqlx::Error> {
    let tags: BTreeSet<Tag> = tags.into_iter().map(Into::into).collect();
    Ok(Invalidated(raise::bump(db, &tags).await?))
}

impl Cache {
    /// Raises this instance's floors and evicts its stale entries after the commit of a transaction
    /// in which [`invalidate_in`] was called. Call it before the reply to the client, also if it is
    /// not known whether the commit took place. Don't call it after a rollback, because this
    /// instance would load the tags' data on each read until they change again.
    ///
    /// Without this call, this instance learns of the write as other instances do, within D, and no
    /// recorder hears of the invalidation of regulated data.
    pub fn committed(&self, invalidated: &Invalidated) {
        self.apply(&invalidated.0);
    }
}
