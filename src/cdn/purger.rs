//! The purger: follows the ledger and tells the shared cache what to forget. Every instance runs one, and one of them is active at a time: the
//! one that holds a lock in Postgres. When it ends, another one goes on from the cursor that it left behind.
//!
//! A change is purged at once, and again when every instance has heard of it, and again when no request from before can be under way any
//! more; only then the cursor moves past it. So whatever dies in between, what was not confirmed is purged again. Where nobody
//! knows what has changed, everything is purged, softly.

use std::{collections::BTreeSet, convert::Infallible, future::Future, time::Duration};

use tokio::time::Instant;

use super::{
    backlog::Backlog,
    cursor,
    endpoint::{Endpoint, PurgeError, requests},
    metrics::PurgeMetrics,
    tags::{ALL, purged_by},
};
use crate::cache::{Cache, Changefeed, Changes, ConnectionPool};

/// Longest time for a statement.
const LIMIT: Duration = Duration::from_secs(5);
/// Pause before the connection is tried again, and before the lock is asked for again.
const RECONNECT: Duration = Duration::from_secs(1);
/// How often the ledger is polled when nobody tells of a change.
const QUIET: Duration = Duration::from_secs(1);
/// How often the cursor is written at most.
const REMEMBER: Duration = Duration::from_secs(1);
/// Pauses between two tries while purges fail: each twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How much later than all instances have heard of a change it is purged again.
const AFTER_NEWS: Duration = Duration::from_millis(100);
/// The same, of when all requests from before have ended.
const AFTER_REQUESTS: Duration = Duration::from_secs(5);

/// Tells a shared cache what to forget.
pub struct Purger {
    db: ConnectionPool,
    cache: Cache,
    endpoint: Endpoint,
    metrics: PurgeMetrics,
    /// The patterns of which a shared cache may hold answers.
    patterns: BTreeSet<&'static str>,
    passes: Vec<Duration>,
}

/// Why the purger begins anew.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the database did not answer in time")]
    Late,
}

impl Purger {
    /// `max_staleness`: within which all instances have heard of a change; `request`: how long a request may take.
    pub fn new(
        cache: Cache,
        db: ConnectionPool,
        endpoint: Endpoint,
        metrics: PurgeMetrics,
        (max_staleness, request): (Duration, Duration),
    ) -> Self {
        let public = cache.policies().iter().filter(|policy| !policy.sensitivity.is_personal());
        let patterns = public.map(|policy| policy.name).collect();
        let passes = vec![Duration::ZERO, max_staleness + AFTER_NEWS, max_staleness + request + AFTER_REQUESTS];
        Self { db, cache, endpoint, metrics, patterns, passes }
    }

    /// Purges for ever.
    pub async fn run(self) {
        let (mut complained, mut forget) = (false, false);
        loop {
            let Err(interrupted) = self.follow(&mut complained, &mut forget).await;
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(reason = %interrupted, "cannot follow the ledger to purge the shared cache");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// Waits until this instance is the one that purges, and purges for as long as its connection lives.
    /// `forget`: the last try didn't get over its first poll, which may have had too much to bring.
    async fn follow(&self, complained: &mut bool, forget: &mut bool) -> Result<Infallible, Interrupted> {
        let mut changefeed = in_time(Changefeed::connect(&self.db, LIMIT)).await?;
        while !in_time(cursor::claim(changefeed.conn())).await? {
            *complained = false;
            tokio::time::sleep(RECONNECT).await;
        }
        let mut cursor = match std::mem::replace(forget, true) {
            true => None,
            false => in_time(cursor::recall(changefeed.conn())).await?,
        };
        let mut active = None;
        let (mut backlog, mut failing) = (Backlog::new(self.passes.clone()), None);
        let mut remembered = Instant::now();
        loop {
            // Before the poll: what is told while it is under way wakes the next one.
            let mut news = self.cache.changes();
            let changes = in_time(changefeed.since(cursor.as_ref())).await?;
            if active.is_none() {
                active = Some(self.metrics.active());
                tracing::info!("this instance purges the shared cache");
                (*complained, *forget) = (false, false);
            }
            cursor = Some(changes.cursor.clone());
            self.take(&mut backlog, changes);
            let purged = self.purge_due(&mut changefeed, &mut backlog).await?;
            note(&mut failing, purged);
            self.metrics.waits(backlog.waiting_since());
            if remembered.elapsed() >= REMEMBER
                && let Some(reached) = backlog.drop_finished()
            {
                in_time(cursor::remember(changefeed.conn(), &reached)).await?;
                remembered = Instant::now();
            }
            match failing {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    let next = backlog.next().map_or(Instant::now() + QUIET, Instant::from_std);
                    // Whether somebody told or the time is up makes no difference.
                    let _ = tokio::time::timeout_at(next.min(Instant::now() + QUIET), news.recv()).await;
                }
            }
        }
    }

    fn take(&self, backlog: &mut Backlog, changes: Changes) {
        let Changes { tags: names, cursor, max_delay } = changes;
        let tags = match names {
            Some(names) => names.iter().filter_map(|name| purged_by(name, &self.patterns)).collect(),
            None => {
                tracing::info!("what has changed since the last purge isn't known: all of the shared cache is purged");
                BTreeSet::from([ALL.to_owned()])
            }
        };
        backlog.add(tags, cursor, max_delay, std::time::Instant::now());
    }

    /// Purges what is due. The outer error is the database's, the inner one the shared cache's.
    async fn purge_due(
        &self,
        changefeed: &mut Changefeed,
        backlog: &mut Backlog,
    ) -> Result<Result<(), PurgeError>, Interrupted> {
        let sent = std::time::Instant::now();
        for (tags, count) in requests(&backlog.due(sent)) {
            if let Err(unpurged) = self.endpoint.purge(&tags).await {
                self.metrics.failed();
                return Ok(Err(unpurged));
            }
            self.metrics.purged(count);
            // Many purges take long, and a connection that says nothing is ended.
            in_time(cursor::keep(changefeed.conn())).await?;
        }
        backlog.purged(sent).into_iter().for_each(|since| self.metrics.delayed(since));
        Ok(Ok(()))
    }
}

/// Notes how long to wait before the next try; says once that purges fail, and once that they succeed again.
fn note(failing: &mut Option<Duration>, purged: Result<(), PurgeError>) {
    match (purged, *failing) {
        (Ok(()), None) => {}
        (Ok(()), Some(_)) => {
            tracing::info!("the shared cache takes purges again");
            *failing = None;
        }
        (Err(reason), None) => {
            tracing::warn!(%reason, "the shared cache can't be purged: changes wait until it can");
            *failing = Some(FIRST_PAUSE);
        }
        (Err(_), Some(pause)) => *failing = Some((2 * pause).min(LONGEST_PAUSE)),
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Interrupted> {
    Ok(tokio::time::timeout(LIMIT, asked).await.map_err(|_| Interrupted::Late)??)
}
