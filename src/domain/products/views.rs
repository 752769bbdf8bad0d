//! Counts views without a write for each read. Counts are kept in memory, and one statement writes
//! all of them every few seconds.
//!
//! Counting never waits for the database, memory is bounded, and a failed flush loses nothing. Not
//! every view is counted. A crash loses the views since the last flush, and views of products
//! beyond the limit are dropped. Popularity only decides which products are warmed and which are
//! shown first. Neither `version` nor the ledger changes.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use aside_cache::{ConnectionPool, Striped};

/// How many products each thread counts between two flushes.
const MAX_PRODUCTS: usize = 2_000;
/// How many products one statement updates. This bounds how many row locks a flush holds.
const BATCH: usize = 500;
/// Pause between two flushes.
const INTERVAL: Duration = Duration::from_secs(5);

/// Rows are locked in the order of their ids, as orders lock them, so the two never deadlock.
const RAISE: &str = "with seen as (select * from unnest($1::bigint[], $2::bigint[]) as seen (id, views)),
     locked as (select id from products where id = any($1) order by id for no key update)
     update products p set view_count = p.view_count + seen.views
     from locked join seen using (id) where p.id = locked.id";

/// Counts views. Clones share their counts.
#[derive(Clone)]
pub struct ViewCounter {
    counts: Arc<Striped<Mutex<HashMap<i64, i64>>>>,
    db: ConnectionPool,
}

impl ViewCounter {
    /// Creates a counter that flushes into `db`.
    pub fn new(db: ConnectionPool) -> Self {
        Self { counts: Arc::default(), db }
    }

    /// Counts one view of a product.
    pub fn count(&self, id: i64) {
        self.add(id, 1);
    }

    /// Writes the counts since the last flush and returns for how many products. Counts that can't
    /// be written are added back.
    pub async fn flush(&self) -> Result<usize, sqlx::Error> {
        let mut all = HashMap::new();
        for counts in self.counts.all() {
            for (id, views) in mem::take(&mut *lock(counts)) {
                *all.entry(id).or_default() += views;
            }
        }
        let mut counted: Vec<(i64, i64)> = all.into_iter().collect();
        counted.sort_unstable();
        for (flushed, batch) in counted.chunks(BATCH).enumerate() {
            let (ids, views): (Vec<i64>, Vec<i64>) = batch.iter().copied().unzip();
            if let Err(error) = sqlx::query(RAISE).bind(ids).bind(views).execute(&self.db).await {
                counted[flushed * BATCH..].iter().for_each(|&(id, views)| self.add(id, views));
                return Err(error);
            }
        }
        Ok(counted.len())
    }

    /// Flushes every few seconds until `shutdown`, and once more at the end.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut told = false;
        loop {
            let stopped = tokio::time::timeout(INTERVAL, shutdown.cancelled()).await.is_ok();
            match self.flush().await {
                Ok(_) => told = false,
                // The error is logged once, not every few seconds while it lasts.
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(%error, "failed to write view counts; retrying with the next batch");
                }
                Err(_) => {}
            }
            if stopped {
                return;
            }
        }
    }

    fn add(&self, id: i64, views: i64) {
        let mut counts = lock(self.counts.local());
        let has_room = counts.len() < MAX_PRODUCTS;
        match counts.get_mut(&id) {
            Some(count) => *count += views,
            None if has_room => {
                counts.insert(id, views);
            }
            None => {}
        }
    }
}

/// Locks the counts. A panic elsewhere can't leave them in a wrong state, so a poisoned lock is
/// still usable.
fn lock(counts: &Mutex<HashMap<i64, i64>>) -> MutexGuard<'_, HashMap<i64, i64>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
