//! Writes of one statement. The change, its precondition and the raised versions are one statement
//! and one round trip, where [`Cache::write`] needs five. The caller's statement becomes a part of
//! it (`raise::change_and_raise`). Postgres executes it in a transaction of its own, so the
//! guarantees are those of every write.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sqlx::{
    Executor, FromRow, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

use crate::{
    Cache,
    consistency::ledger::raise,
    database::{
        database_errors::{is_conflict, is_unavailable},
        statement::Statement,
    },
    key::Tag,
    observe::spans,
    write::{ATTEMPTS, completion::PendingWrite, pause, with_wildcards},
};

impl Cache {
    /// Executes a write of one statement: an `update`, `insert` or `delete` with `returning`. If it
    /// changes a row, these tags are invalidated in the same transaction. Returns the first row, or
    /// `None` if the statement changed nothing. Afterwards this instance serves nothing older than
    /// this answer.
    ///
    /// A precondition is a part of the statement's `where`. If the answer is `None`, a transaction
    /// ([`Cache::write`]) can find out which condition was not met.
    ///
    /// # Errors
    /// If the database refuses the statement or can't be reached. If the connection breaks, the
    /// write may or may not be committed.
    ///
    /// ```no_run
    /// # use aside_cache::{Cache, Tag};
    /// # async fn example(cache: Cache, id: i64) -> Result<(), sqlx::Error> {
    /// let sql = "update products set price_cents = $2 where id = $1 returning price_cents";
    /// let update = sqlx::query_as::<_, (i64,)>(sql).bind(id).bind(89_i64);
    /// if cache.write_one(update, [Tag::new("product", id)]).await?.is_none() {
    ///     println!("there is no product {id}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_one<R, G>(
        &self,
        statement: QueryAs<'_, Postgres, R, PgArguments>,
        tags: G,
    ) -> PendingWrite<impl Future<Output = Result<Option<R>, sqlx::Error>> + use<R, G>>
    where
        G: IntoIterator<Item: Into<Tag>>,
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let (cache, statement) = (self.clone(), Statement::new(statement));
        let tags: BTreeSet<Tag> = tags.into_iter().map(Into::into).collect();
        PendingWrite::new(self.inner.load_limit, async move {
            let statement = statement?;
            let mut attempt = 1;
            let row = loop {
                let changed = match attempt {
                    1 => cache.change(&statement, &tags).await,
                    _ => cache.change_in_transaction(&statement, &tags).await,
                };
                match changed {
                    Err(error) if is_conflict(&error) && attempt < ATTEMPTS => pause(&mut attempt).await,
                    changed => break changed?,
                }
            };
            if row.is_none() {
                // The answer must not be newer than later answers of this instance.
                cache.raise_floors_to_current(&with_wildcards(tags)).await?;
            }
            row.map(|row| R::from_row(&row)).transpose()
        })
    }

    /// Changes the rows and raises the tags by one statement.
    async fn change(&self, statement: &Statement, tags: &BTreeSet<Tag>) -> Result<Option<PgRow>, sqlx::Error> {
        let permit = self.write_permit(None).await?;
        let outcome = UnknownOutcome { cache: self, tags, is_sent: Arc::default() };
        let changed = raise::change_and_raise(&self.inner.db, statement, tags, Arc::clone(&outcome.is_sent));
        let changed = tracing::Instrument::instrument(changed, spans::commit(tags.len())).await;
        // An error of Postgres itself, also one that ends the session, says that nothing is committed.
        if changed.as_ref().err().is_none_or(|error| error.as_database_error().is_some()) {
            outcome.is_sent.store(false, Ordering::Release);
        }
        if !changed.as_ref().is_err_and(is_unavailable) {
            permit.answered();
        }
        Ok(changed?.map(|(row, raised)| {
            self.apply(&raised);
            row
        }))
    }

    /// The same in a transaction. It has its own isolation level, at which a writer of a row waits
    /// for another one instead of failing.
    async fn change_in_transaction(
        &self,
        statement: &Statement,
        tags: &BTreeSet<Tag>,
    ) -> Result<Option<PgRow>, sqlx::Error> {
        let mut write = self.begin().await?;
        let row = write.conn().fetch_optional(statement.clone()).await?;
        if row.is_some() {
            write.invalidate_all(tags.iter().cloned());
        }
        write.commit().await.map(|()| row)
    }
}

/// A change that Postgres may have committed, because it was sent and its answer did not come. When
/// this is dropped, this instance loads all that depends on the tags for as long as the statement
/// may still be running.
struct UnknownOutcome<'c> {
    cache: &'c Cache,
    tags: &'c BTreeSet<Tag>,
    is_sent: Arc<AtomicBool>,
}

impl Drop for UnknownOutcome<'_> {
    fn drop(&mut self) {
        if self.is_sent.load(Ordering::Acquire) {
            self.cache.inner.freshness.refuse_for(self.tags, self.cache.inner.load_limit);
        }
    }
}
