//! The ledger for who must hear of every change, also of those made while nobody listened: what stands before the service and is told
//! what to forget. Each change is heard at least once, whatever the order of commits, by comparing snapshots as the tail does.
//!
//! Where the listener stands is a [`Point`], which can be kept. When what changed since can't be known any more, because the point belongs
//! to another life of the database or rows of quiet names may have been removed since, that is said: everything may have changed.

use std::time::Duration;

use sqlx::PgConnection;

use super::{
    entry::DbTime,
    fence::Fence,
    key::Name,
    ledger::{FAR_FUTURE, Look, Looker, MOST_CHANGES},
    pool::ConnectionPool,
};

/// Up to where the ledger was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The life of the database that the snapshot belongs to.
    pub era: String,
    /// What was visible.
    pub snapshot: String,
    /// A moment that is not after the snapshot.
    pub at: DbTime,
}

/// What was heard.
#[derive(Debug)]
pub struct Heard {
    /// The names whose numbers have risen; `None`: it can't be known, so any may have.
    pub names: Option<Vec<Name>>,
    /// Up to where.
    pub point: Point,
    /// How long ago the first of these changes was committed, at most.
    pub waited: Duration,
}

/// A connection of its own to hear what changes.
pub struct Feed(Looker);

impl Feed {
    /// Connects; every statement ends after `limit` at the latest.
    ///
    /// # Errors
    /// When the database can't be reached or is a standby.
    pub async fn connect(db: &ConnectionPool, limit: Duration) -> Result<Self, sqlx::Error> {
        let mut looker = Looker::connect(db, limit).await?;
        looker.name_era().await?;
        Ok(Self(looker))
    }

    /// Its connection, for what the listener keeps in the database.
    pub fn db(&mut self) -> &mut PgConnection {
        self.0.db()
    }

    /// What has changed since; of `None` nothing is known.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn since(&mut self, point: Option<&Point>) -> Result<Heard, sqlx::Error> {
        let look = self.0.look(point.map_or(FAR_FUTURE, |point| &point.snapshot), MOST_CHANGES).await?;
        // Whoever connects next names the epoch.
        let era = look.era.clone().ok_or(sqlx::Error::RowNotFound)?;
        let known = point.filter(|point| is_complete(point, &look));
        let first = |before: DbTime| look.raised_at.iter().map(|raised| (*raised).max(before)).min();
        let waited = known.and_then(|point| first(point.at)).unwrap_or(look.statement).age_at(look.statement);
        let names = known.map(|_| look.changes.into_iter().map(|change| change.name).collect());
        Ok(Heard { names, waited, point: Point { era, snapshot: look.snapshot, at: look.statement } })
    }
}

/// Whether the look shows everything that has changed since the point: rows of names that were quiet for twice as long may be gone.
fn is_complete(point: &Point, look: &Look) -> bool {
    look.complete && look.era.as_ref() == Some(&point.era) && point.at.age_at(look.statement) < Fence::memory()
}
