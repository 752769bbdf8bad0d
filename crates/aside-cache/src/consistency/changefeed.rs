//! The changefeed reports the ledger's changes to a listener that must learn of every one, such as
//! the purger of a shared HTTP cache. It also reports the changes made while no listener was
//! connected. It reports each change at least once, in any order of commits, because it compares
//! snapshots as the poller does.
//!
//! A [`ChangeCursor`] is the position of a listener and can be stored. The changes since a cursor
//! may be unknown. The cursor may belong to another epoch of the database, or rows of idle tags may
//! have been removed since. The changefeed then reports that every tag may have changed.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{
    consistency::freshness::MIN_RETENTION,
    consistency::ledger::{ChangeBatch, FAR_FUTURE, LedgerConnection, MAX_CHANGES},
    database::pool::ConnectionPool,
    entry::DbTime,
    key::Tag,
};

/// The position up to which a listener has read the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeCursor {
    /// The epoch of the database that the snapshot belongs to.
    pub epoch: String,
    /// The Postgres snapshot of the last poll.
    pub snapshot: String,
    /// A moment that is not after the snapshot.
    pub at: DbTime,
}

/// The changes that one call of [`Changefeed::since`] returns.
#[derive(Debug)]
pub struct Changes {
    /// The tags whose versions have risen. `None` means that they are unknown, so every tag may
    /// have changed.
    pub tags: Option<Vec<Tag>>,
    /// The position after these changes.
    pub cursor: ChangeCursor,
    /// An upper bound of the time since the first of these changes was committed.
    pub max_delay: Duration,
}

/// A changefeed with its own connection to Postgres.
pub struct Changefeed(LedgerConnection);

impl Changefeed {
    /// Connects. Every statement on this connection ends after `limit` at the latest.
    ///
    /// # Errors
    /// Returns an error if the database can't be reached or is a standby.
    pub async fn connect(db: &ConnectionPool, limit: Duration) -> Result<Self, sqlx::Error> {
        let mut connection = LedgerConnection::connect(db, limit, MIN_RETENTION).await?;
        connection.ensure_epoch().await?;
        Ok(Self(connection))
    }

    /// The connection, for the state that the listener stores in the database.
    pub fn conn(&mut self) -> &mut PgConnection {
        self.0.conn()
    }

    /// Returns the changes since `cursor`. Without a cursor, the changes are unknown.
    ///
    /// # Errors
    /// Returns an error if the poll fails.
    pub async fn since(&mut self, cursor: Option<&ChangeCursor>) -> Result<Changes, sqlx::Error> {
        let batch = self.0.poll(cursor.map_or(FAR_FUTURE, |cursor| &cursor.snapshot), MAX_CHANGES).await?;
        // If the epoch has no row yet, this call fails, and the next connection creates the row.
        let epoch = batch.epoch.clone().ok_or(sqlx::Error::RowNotFound)?;
        let known = cursor.filter(|cursor| is_complete(cursor, &batch));
        let first = |before: DbTime| batch.raised_at.iter().map(|raised| (*raised).max(before)).min();
        let max_delay = known.and_then(|cursor| first(cursor.at)).unwrap_or(batch.statement).age_at(batch.statement);
        let tags = known.map(|_| batch.changes.into_iter().map(|change| change.tag).collect());
        Ok(Changes { tags, max_delay, cursor: ChangeCursor { epoch, snapshot: batch.snapshot, at: batch.statement } })
    }
}

/// Whether the poll contains every change since the cursor. Postgres may have removed rows of tags
/// that were idle for twice as long as floors are kept.
fn is_complete(cursor: &ChangeCursor, batch: &ChangeBatch) -> bool {
    batch.complete && batch.epoch.as_ref() == Some(&cursor.epoch) && cursor.at.age_at(batch.statement) < MIN_RETENTION
}
