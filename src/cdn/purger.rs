//! The purger: polls the ledger and purges the shared cache. Every instance runs one, and the
//! instance that holds a lock in Postgres is active. When it ends, another one continues from the
//! stored cursor.
//!
//! A change is purged at once, again when every instance has polled it, and again when no older
//! request can be in flight. Only then does the cursor move past it. After a crash, all unconfirmed
//! changes are therefore purged again. If the changes are unknown, everything is purged softly.

use std::{collections::BTreeSet, convert::Infallible, future::Future, time::Duration};

use aside_cache::{Cache, Changefeed, Changes, ConnectionPool};
use tokio::time::Instant;

use super::{
    backlog::Backlog,
    cursor,
    endpoint::{Endpoint, PurgeError, requests},
    metrics::PurgeMetrics,
    tags::{ALL, purged_by},
};

/// The time limit of a statement.
const LIMIT: Duration = Duration::from_secs(5);
/// The pause before the next attempt to connect or to take the lock.
const RECONNECT: Duration = Duration::from_secs(1);
/// The interval between two polls of the ledger if no hint arrives.
const QUIET: Duration = Duration::from_secs(1);
/// The minimum interval between two writes of the cursor.
const REMEMBER: Duration = Duration::from_secs(1);
/// The pauses between two attempts while purges fail. Each is twice as long as the previous one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The delay of the second purge after all instances have polled the change.
const AFTER_NEWS: Duration = Duration::from_millis(100);
/// The delay of the third purge after all older requests have ended.
const AFTER_REQUESTS: Duration = Duration::from_secs(5);

/// Purges a shared cache when the ledger changes.
pub struct Purger {
    db: ConnectionPool,
    cache: Cache,
    endpoint: Endpoint,
    metrics: PurgeMetrics,
    /// The types whose answers a shared cache may store.
    patterns: BTreeSet<&'static str>,
    passes: Vec<Duration>,
}

/// The reason why the purger restarts.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the database did not answer in time")]
    Late,
}

impl Purger {
    /// Creates a purger. Within `max_staleness`, all instances have polled a change. `request` is
    /// the time limit of a request.
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
                tracing::warn!(reason = %interrupted, "failed to poll the ledger for purges; retrying");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// Waits until this instance is the active purger, and then purges for as long as its
    /// connection lives. `forget` is set if the previous attempt failed before its first poll
    /// ended, perhaps because it had too many changes to read.
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
            // The subscription comes before the poll, so a hint that arrives during the poll
            // triggers the next one.
            let mut news = self.cache.changes();
            let changes = in_time(changefeed.since(cursor.as_ref())).await?;
            if active.is_none() {
                active = Some(self.metrics.active());
                tracing::info!("this instance is the active purger");
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
                    // A hint and a timeout have the same effect.
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
                tracing::info!("changes since the last purge are unknown: purging the whole shared cache");
                BTreeSet::from([ALL.to_owned()])
            }
        };
        backlog.add(tags, cursor, max_delay, std::time::Instant::now());
    }

    /// Purges all tags that are due. The outer error comes from the database, the inner one from
    /// the shared cache.
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
            // Many purges take long, and the server closes an idle connection.
            in_time(cursor::keep(changefeed.conn())).await?;
        }
        backlog.purged(sent).into_iter().for_each(|since| self.metrics.delayed(since));
        Ok(Ok(()))
    }
}

/// Sets the pause before the next attempt. It logs once that purges fail and once that they succeed
/// again.
fn note(failing: &mut Option<Duration>, purged: Result<(), PurgeError>) {
    match (purged, *failing) {
        (Ok(()), None) => {}
        (Ok(()), Some(_)) => {
            tracing::info!("purges of the shared cache succeed again");
            *failing = None;
        }
        (Err(reason), None) => {
            tracing::warn!(%reason, "failed to purge the shared cache; retrying");
            *failing = Some(FIRST_PAUSE);
        }
        (Err(_), Some(pause)) => *failing = Some((2 * pause).min(LONGEST_PAUSE)),
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Interrupted> {
    Ok(tokio::time::timeout(LIMIT, asked).await.map_err(|_| Interrupted::Late)??)
}
