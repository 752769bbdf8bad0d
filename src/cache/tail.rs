//! The tail: looks at the ledger every few milliseconds and tells the fence. It is the only way in which an instance learns of
//! other instances' writes, and the only proof that its floors are current: when it stops, the tiers stop being used.

use std::{future::Future, sync::Arc, time::Duration};

use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    database_errors::is_read_only,
    entry::DbTime,
    fence::Fence,
    key::Name,
    l1::L1,
    ledger::{FAR_FUTURE, Look, Looker, MOST_CHANGES, MOST_CHANGES_AT_START},
    pool::ConnectionPool,
    triggers::TriggerWatch,
};

/// Pause before the connection is tried again.
const RECONNECT: Duration = Duration::from_millis(100);
/// How often floors are swept and a horizon is left.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Longest time for a look that has much to catch up with.
const MOST_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Tail {
    pub(super) db: ConnectionPool,
    pub(super) fence: Arc<Fence>,
    pub(super) l1: Arc<L1>,
    pub(super) lag: Histogram,
    pub(super) clock: Clock,
    /// Takes the time of each look.
    pub(super) looks: Histogram,
    pub(super) poll: Duration,
    /// Longest time that one look usually takes; longer while there is much to catch up with.
    pub(super) limit: Duration,
    /// Tells of the names whose numbers have risen.
    pub(super) news: broadcast::Sender<Name>,
}

/// Where the tail stands: the era it follows and the snapshot of its last look.
struct Position {
    era: String,
    snapshot: String,
    statement: DbTime,
}

/// Why the tail begins anew.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the database did not answer in time")]
    Late,
    #[error("the database was restarted, promoted or restored")]
    AnotherEra,
}

impl Tail {
    /// Follows the ledger until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow_for_ever()).await;
    }

    async fn follow_for_ever(&self) {
        let (mut position, mut patience, mut triggers) = (None, self.limit, TriggerWatch::default());
        let mut complained = false;
        loop {
            let Err(interrupted) = self.follow(&mut position, &mut patience, &mut complained, &mut triggers).await;
            if !complained {
                tracing::warn!(reason = %interrupted, "cannot follow the ledger: cached answers are not used meanwhile");
                complained = true;
            }
            match interrupted {
                Interrupted::AnotherEra => {
                    self.fence.distrust();
                    self.l1.clear();
                    position = None;
                }
                // What was too much for one look is still too much: a look that takes long proves nothing by itself, but it
                // brings the floors up to date, and the next one is short.
                Interrupted::Late => patience = (2 * patience).min(MOST_PATIENCE),
                Interrupted::Database(_) => {}
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// Connects and looks again and again; a lost connection goes on where the last one stood.
    async fn follow(
        &self,
        position: &mut Option<Position>,
        patience: &mut Duration,
        complained: &mut bool,
        triggers: &mut TriggerWatch,
    ) -> Result<std::convert::Infallible, Interrupted> {
        // Connecting takes several round trips, so it may take longer than a look.
        let connecting = Looker::connect(&self.db, MOST_PATIENCE);
        let mut looker = in_time(4 * *patience, connecting).await?;
        let mut housekeeping = self.clock.now();
        loop {
            let sent = self.clock.now();
            let look = match position {
                Some(position) => {
                    let look = in_time(*patience, looker.look(&position.snapshot, MOST_CHANGES)).await?;
                    self.looks.observe(self.clock.now().saturating_sub(sent).as_secs_f64());
                    if look.era.as_ref() != Some(&position.era) {
                        return Err(Interrupted::AnotherEra);
                    }
                    let arrived = self.arrived(sent, &look);
                    self.fence.raise(&look.changes, arrived);
                    if !look.complete {
                        // A sound answer to more than can be told by name. What is read from now on has seen all of it.
                        self.fence.refuse_before(arrived);
                    }
                    self.fence.looked(sent, look.statement);
                    self.note_lag(&look, position.statement, arrived);
                    // Nobody need listen.
                    look.changes.iter().for_each(|change| drop(self.news.send(change.name.clone())));
                    position.snapshot.clone_from(&look.snapshot);
                    position.statement = look.statement;
                    look
                }
                None => {
                    let (begun, look) = in_time(4 * *patience, self.begin(&mut looker)).await?;
                    *position = Some(begun);
                    look
                }
            };
            *patience = self.limit;
            if std::mem::take(complained) {
                tracing::info!("following the ledger again");
            }
            if self.clock.now() >= housekeeping {
                housekeeping = self.clock.now() + HOUSEKEEPING;
                self.fence.sweep(sent, look.statement);
                match in_time(4 * self.limit, looker.keep_house()).await {
                    // What is not tidied now is tidied when the database takes writes again.
                    Err(Interrupted::Database(error)) if is_read_only(&error) => {}
                    kept => kept?,
                }
                in_time(4 * self.limit, triggers.check(&mut looker, sent)).await?;
            }
            // A hint shortens the pause, but not to nothing: whoever floods hints must not flood the database.
            tokio::time::sleep(self.poll / 10).await;
            let _ = tokio::time::timeout(self.poll * 9 / 10, self.fence.hurried()).await;
        }
    }

    /// Begins an era: raises floors for all that changed since the horizon, so that what other instances left in L2 can be
    /// judged. Trust begins with the next look.
    async fn begin(&self, looker: &mut Looker) -> Result<(Position, Look), Interrupted> {
        looker.name_era().await?;
        let horizon = looker.horizon().await?;
        // Without a horizon the first look only has to bring a snapshot: nothing read before the second look is accepted.
        let since = horizon.as_ref().map_or(FAR_FUTURE, |(snapshot, _)| snapshot);
        let first = looker.look(since, MOST_CHANGES_AT_START).await?;
        let sent = self.clock.now();
        let second = looker.look(&first.snapshot, MOST_CHANGES).await?;
        let arrived = self.arrived(sent, &second);
        self.fence.raise(&first.changes, arrived);
        self.fence.raise(&second.changes, arrived);
        // An entry read after the second look reached the database has a snapshot after the first one: what it misses, this
        // look or a later one reports.
        let accept_from = match horizon {
            _ if !second.complete => arrived,
            Some((_, taken_at)) if first.complete => taken_at,
            _ => second.statement,
        };
        let era = second.era.clone().ok_or(Interrupted::AnotherEra)?;
        self.fence.begin_era(era.as_str().into(), accept_from, (sent, second.statement));
        let snapshot = second.snapshot.clone();
        let position = Position { era, snapshot, statement: second.statement };
        Ok((position, second))
    }

    /// Notes how long it took from each change's commit to the floors, at most: the number was raised before the commit, and the
    /// look before this one, which didn't see the change, came before it too.
    fn note_lag(&self, look: &Look, before: DbTime, arrived: DbTime) {
        for raised_at in &look.raised_at {
            self.lag.observe((*raised_at).max(before).age_at(arrived).as_secs_f64());
        }
    }

    /// A moment of the database that is not before the snapshot of a look that has just been answered.
    fn arrived(&self, sent: Duration, look: &Look) -> DbTime {
        look.statement.after(self.clock.now().saturating_sub(sent))
    }
}

async fn in_time<T, E>(limit: Duration, asked: impl Future<Output = Result<T, E>>) -> Result<T, Interrupted>
where
    Interrupted: From<E>,
{
    Ok(tokio::time::timeout(limit, asked).await.map_err(|_| Interrupted::Late)??)
}
