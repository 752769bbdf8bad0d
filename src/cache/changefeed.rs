//! The ledger for who must hear of every change, also of those made while nobody listened: what stands before the service and is told
//! what to forget. Each change is heard at least once, whatever the order of commits, by comparing snapshots as the poller does.
//!
//! Where the listener stands is a [`ChangeCursor`], which can be kept. When what changed since can't be known any more, because the cursor belongs
//! to another epoch of the database or rows of idle tags may have been removed since, that is said: everything may have changed.

use std::time::Duration;

use sqlx::PgConnection;

use super::{
    entry::DbTime,
    freshness::Freshness,
    key::Tag,
    ledger::{ChangeBatch, FAR_FUTURE, LedgerConnection, MAX_CHANGES},
    pool::ConnectionPool,
};

/// Up to where the ledger was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeCursor {
    /// The epoch of the database that the snapshot belongs to.
    pub epoch: String,
    /// What was visible.
    pub snapshot: String,
    /// A moment that is not after the snapshot.
    pub at: DbTime,
}

/// What was heard.
#[derive(Debug)]
pub struct Changes {
    /// The tags whose versions have risen; `None`: it can't be known, so any may have.
    pub tags: Option<Vec<Tag>>,
    /// Up to where.
    pub cursor: ChangeCursor,
    /// How long ago the first of these changes was committed, at most.
    pub max_delay: Duration,
}

/// A connection of its own to hear what changes.
pub struct Changefeed(LedgerConnection);

impl Changefeed {
    /// Connects; every statement ends after `limit` at the latest.
    ///
    /// # Errors
    /// When the database can't be reached or is a standby.
    pub async fn connect(db: &ConnectionPool, limit: Duration) -> Result<Self, sqlx::Error> {
        let mut connection = LedgerConnection::connect(db, limit).await?;
        connection.ensure_epoch().await?;
        Ok(Self(connection))
    }

    /// Its connection, for what the listener keeps in the database.
    pub fn conn(&mut self) -> &mut PgConnection {
        self.0.conn()
    }

    /// What has changed since; of `None` nothing is known.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn since(&mut self, cursor: Option<&ChangeCursor>) -> Result<Changes, sqlx::Error> {
        let batch = self.0.poll(cursor.map_or(FAR_FUTURE, |cursor| &cursor.snapshot), MAX_CHANGES).await?;
        // Whoever connects next names the epoch.
        let epoch = batch.epoch.clone().ok_or(sqlx::Error::RowNotFound)?;
        let known = cursor.filter(|cursor| is_complete(cursor, &batch));
        let first = |before: DbTime| batch.raised_at.iter().map(|raised| (*raised).max(before)).min();
        let max_delay = known.and_then(|cursor| first(cursor.at)).unwrap_or(batch.statement).age_at(batch.statement);
        let tags = known.map(|_| batch.changes.into_iter().map(|change| change.tag).collect());
        Ok(Changes { tags, max_delay, cursor: ChangeCursor { epoch, snapshot: batch.snapshot, at: batch.statement } })
    }
}

/// Whether the poll shows everything that has changed since the cursor: rows of tags that were idle for twice as long may be gone.
fn is_complete(cursor: &ChangeCursor, batch: &ChangeBatch) -> bool {
    batch.complete
        && batch.epoch.as_ref() == Some(&cursor.epoch)
        && cursor.at.age_at(batch.statement) < Freshness::memory()
}
