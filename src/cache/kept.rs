//! Connections that are kept for the next select instead of going back to sqlx's pool.
//!
//! The pool asks each connection that it takes back whether it still answers and whether it is outside of a transaction: two round
//! trips to Postgres after each statement, which cost more than a small load. A connection on which a select has just ended well
//! needs neither question, so it waits here, ready to use. It goes back to the pool, and is checked there, when it is not used for
//! a while, when it was used for a while without having been checked, and whenever something waits for the pool. So no connection
//! is missing because it is kept.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Postgres, pool::PoolConnection};

/// The longest that a connection is kept without being used.
const IDLE_LIMIT: Duration = Duration::from_millis(500);
/// The longest that a connection is used without going back to the pool, which closes the ones that are too old.
const USE_LIMIT: Duration = Duration::from_secs(5);

/// A connection of the pool that may be kept when its statement has ended.
pub(super) struct Lent {
    pub(super) connection: PoolConnection<Postgres>,
    /// When it was taken from the pool.
    taken_at: Instant,
}

impl Lent {
    pub(super) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection, taken_at: Instant::now() }
    }
}

#[derive(Default)]
struct State {
    /// The last one is the one that was used last; each with the time when its statement ended.
    kept: Vec<(Lent, Instant)>,
    /// How many wait for the pool.
    waiting: usize,
    /// Whether a task gives back what is not used.
    is_watched: bool,
    is_closed: bool,
}

/// The connections that are kept. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<State>>);

impl Kept {
    /// The connection that was used last, or leave to wait for one of the pool.
    pub(super) fn take(&self) -> Result<Lent, Waiting> {
        let mut state = self.lock();
        // A connection that has not been used for long may have been cut meanwhile: the task gives it back, and the pool asks it.
        while let Some((lent, ended_at)) = state.kept.pop() {
            if ended_at.elapsed() < IDLE_LIMIT {
                return Ok(lent);
            }
        }
        state.waiting += 1;
        Err(Waiting(self.clone()))
    }

    /// Gives one back to the pool, and those that come while something waits for the pool.
    pub(super) fn wait(&self) -> Waiting {
        let mut state = self.lock();
        drop(state.kept.pop());
        state.waiting += 1;
        Waiting(self.clone())
    }

    /// Keeps a connection on which a select has just ended well.
    pub(super) fn keep(&self, lent: Lent) {
        let mut state = self.lock();
        if state.is_closed || state.waiting > 0 || lent.taken_at.elapsed() >= USE_LIMIT {
            return;
        }
        state.kept.push((lent, Instant::now()));
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(self.clone().give_back());
        }
    }

    /// Gives all of them back to the pool, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.kept.clear();
    }

    /// Gives back what is not used, as long as there is something.
    async fn give_back(self) {
        loop {
            tokio::time::sleep(IDLE_LIMIT).await;
            let mut state = self.lock();
            state.kept.retain(|(_, ended_at)| ended_at.elapsed() < IDLE_LIMIT);
            if state.kept.is_empty() {
                state.is_watched = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that waits for the pool, until the value is dropped.
pub(super) struct Waiting(Kept);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
