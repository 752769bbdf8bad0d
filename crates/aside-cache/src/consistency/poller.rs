//! The ledger poller: it polls the ledger every few milliseconds and updates the floors. An
//! instance learns of the writes of other instances only here. The poller is also the only proof
//! that the floors are current, so the tiers are not used while it is stopped.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    consistency::clock_steps::is_step_back,
    consistency::freshness::Freshness,
    consistency::ledger::{ChangeBatch, FAR_FUTURE, LedgerConnection, MAX_CHANGES, MAX_CHANGES_AT_START},
    consistency::triggers::TriggerWatch,
    database::database_errors::is_read_only,
    database::pool::ConnectionPool,
    entry::DbTime,
    key::Tag,
    observe::arrivals::{Arrival, Arrivals},
    observe::counters::Histogram,
    tiers::l1::L1,
};

/// Pause before the next attempt to connect.
const RECONNECT: Duration = Duration::from_millis(100);
/// How often floors are pruned and a checkpoint is recorded.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time for a poll that has many changes to read.
const MAX_POLL_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct LedgerPoller {
    pub(crate) db: ConnectionPool,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) l1: Arc<L1>,
    pub(crate) lag: Arc<Histogram>,
    /// The last changes and their delays.
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) clock: Clock,
    /// The duration of each poll.
    pub(crate) polls: Arc<Histogram>,
    pub(crate) poll: Duration,
    /// Longest time for one poll in normal operation. A poll that has many changes to read may take
    /// longer.
    pub(crate) limit: Duration,
    /// Publishes the tags whose versions have risen.
    pub(crate) news: broadcast::Sender<Tag>,
}

/// The position of the poller: its epoch and the snapshot of its last poll.
struct Position {
    epoch: String,
    snapshot: String,
    statement: DbTime,
}

/// Why the poller must reconnect or start again.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the database did not answer in time")]
    Late,
    #[error("the database was restarted, promoted or restored")]
    AnotherEpoch,
}

impl LedgerPoller {
    /// Follows the ledger until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow_forever()).await;
    }

    async fn follow_forever(&self) {
        let (mut cursor, mut poll_timeout, mut triggers) = (None, self.limit, TriggerWatch::default());
        let mut complained = false;
        loop {
            let Err(interrupted) = self.follow(&mut cursor, &mut poll_timeout, &mut complained, &mut triggers).await;
            if !complained {
                tracing::warn!(reason = %interrupted, "failed to poll the ledger: cached entries are not served until it succeeds");
                complained = true;
            }
            match interrupted {
                Interrupted::AnotherEpoch => {
                    self.freshness.reset();
                    self.l1.clear();
                    cursor = None;
                }
                // A poll with too many changes would fail again, so the next one gets more time. A
                // long poll proves no freshness, but it brings the floors up to date. The next one
                // is short.
                Interrupted::Late => poll_timeout = (2 * poll_timeout).min(MAX_POLL_TIMEOUT),
                Interrupted::Database(_) => {}
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// Connects and polls until an error. The next connection continues at the same cursor.
    async fn follow(
        &self,
        cursor: &mut Option<Position>,
        poll_timeout: &mut Duration,
        complained: &mut bool,
        triggers: &mut TriggerWatch,
    ) -> Result<std::convert::Infallible, Interrupted> {
        // Connecting needs several round trips, so it may take longer than a poll.
        let connecting = LedgerConnection::connect(&self.db, MAX_POLL_TIMEOUT, self.freshness.retention());
        let mut connection = in_time(4 * *poll_timeout, connecting).await?;
        let mut next_maintenance = self.clock.now();
        loop {
            let sent = self.clock.now();
            let batch = match cursor {
                Some(cursor) => {
                    let batch = in_time(*poll_timeout, connection.poll(&cursor.snapshot, MAX_CHANGES)).await?;
                    self.polls.observe(self.clock.now().saturating_sub(sent));
                    if batch.epoch.as_ref() != Some(&cursor.epoch) {
                        return Err(Interrupted::AnotherEpoch);
                    }
                    if is_step_back(cursor.statement, batch.statement) {
                        tracing::warn!("the clock of Postgres was set back: all cached entries are invalid");
                        match in_time(4 * self.limit, connection.end_epoch(&cursor.epoch)).await {
                            // On a read-only database, only this instance can begin an epoch.
                            Err(Interrupted::Database(error)) if is_read_only(&error) => {}
                            ended => ended?,
                        }
                        return Err(Interrupted::AnotherEpoch);
                    }
                    let arrived = self.arrived(sent, &batch);
                    self.freshness.raise(&batch.changes, arrived);
                    if !batch.complete {
                        // There are too many changes to list. Every later read includes all of
                        // them, so a minimum read time covers them.
                        self.freshness.raise_min_read_time(arrived);
                    }
                    self.freshness.polled(sent, batch.statement);
                    self.note_lag(&batch, cursor.statement, arrived);
                    // A missing receiver is no error.
                    batch.changes.iter().for_each(|change| drop(self.news.send(change.tag.clone())));
                    cursor.snapshot.clone_from(&batch.snapshot);
                    cursor.statement = batch.statement;
                    batch
                }
                None => {
                    let (begun, batch) = in_time(4 * *poll_timeout, self.begin(&mut connection)).await?;
                    *cursor = Some(begun);
                    batch
                }
            };
            *poll_timeout = self.limit;
            if std::mem::take(complained) {
                tracing::info!("polling the ledger again");
            }
            if self.clock.now() >= next_maintenance {
                next_maintenance = self.clock.now() + MAINTENANCE_INTERVAL;
                self.freshness.sweep(sent, batch.statement);
                match in_time(4 * self.limit, connection.run_maintenance()).await {
                    // A read-only database postpones maintenance until it accepts writes again.
                    Err(Interrupted::Database(error)) if is_read_only(&error) => {}
                    kept => kept?,
                }
                in_time(4 * self.limit, triggers.check(&mut connection, sent)).await?;
            }
            // A hint shortens the pause, but never to zero. A flood of hints must not flood the
            // database.
            tokio::time::sleep(self.poll / 10).await;
            let _ = tokio::time::timeout(self.poll * 9 / 10, self.freshness.notified()).await;
        }
    }

    /// Begins an epoch. Floors rise for all changes since the checkpoint, so that freshness can be
    /// decided for entries that other instances stored in L2. The tiers are used from the next poll
    /// on.
    async fn begin(&self, connection: &mut LedgerConnection) -> Result<(Position, ChangeBatch), Interrupted> {
        connection.ensure_epoch().await?;
        match connection.end_epoch_of_the_future().await {
            Err(error) if is_read_only(&error) => {}
            ended => ended?,
        }
        // Older connections may lead to another server. Loads of this epoch must not use them.
        self.db.give_up_connections();
        let checkpoint = connection.checkpoint().await?;
        // Without a checkpoint the first poll only returns a snapshot. No answer that was read
        // before the second poll is accepted.
        let since = checkpoint.as_ref().map_or(FAR_FUTURE, |(snapshot, _)| snapshot);
        let first = connection.poll(since, MAX_CHANGES_AT_START).await?;
        let sent = self.clock.now();
        let second = connection.poll(&first.snapshot, MAX_CHANGES).await?;
        let arrived = self.arrived(sent, &second);
        self.freshness.raise(&first.changes, arrived);
        self.freshness.raise(&second.changes, arrived);
        // An entry read after the second poll reached the database has a snapshot after the first
        // poll. Changes that this entry misses are reported by this poll or by a later one.
        let min_read_time = match checkpoint {
            _ if !second.complete => arrived,
            Some((_, taken_at)) if first.complete => taken_at,
            _ => second.statement,
        };
        let epoch = second.epoch.clone().ok_or(Interrupted::AnotherEpoch)?;
        self.freshness.begin_epoch(epoch.as_str().into(), min_read_time, (sent, second.statement));
        let snapshot = second.snapshot.clone();
        let cursor = Position { epoch, snapshot, statement: second.statement };
        Ok((cursor, second))
    }

    /// Records an upper bound of the time from each change's commit to the floors. The version was
    /// raised before the commit. The previous poll did not see the change, so it came before the
    /// commit too.
    fn note_lag(&self, batch: &ChangeBatch, before: DbTime, arrived: DbTime) {
        for (change, raised_at) in batch.changes.iter().zip(&batch.raised_at) {
            let delay = (*raised_at).max(before).age_at(arrived);
            self.lag.observe(delay);
            self.arrivals.record(Arrival { tag: change.tag.clone(), version: change.version, delay });
        }
    }

    /// A database time that is not before the snapshot of the poll that has just been answered.
    fn arrived(&self, sent: Duration, batch: &ChangeBatch) -> DbTime {
        batch.statement.after(self.clock.now().saturating_sub(sent))
    }
}

async fn in_time<T, E>(limit: Duration, asked: impl Future<Output = Result<T, E>>) -> Result<T, Interrupted>
where
    Interrupted: From<E>,
{
    Ok(tokio::time::timeout(limit, asked).await.map_err(|_| Interrupted::Late)??)
}
