//! Connections that the next select reuses without a return to sqlx's pool.
//!
//! The pool asks each returned connection whether it still answers and whether it is outside of a
//! transaction. These two round trips to Postgres after each statement cost more than a small load.
//! A connection on which a select has just succeeded needs neither question. It waits here, ready
//! to use.
//!
//! A connection goes back to the pool, which checks it, when it is not used for a while. It also
//! does so when it was used for a while without a check, and when a task waits for the pool. So no
//! task lacks a connection because it is kept here.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Postgres, pool::PoolConnection};

/// The longest time for which a connection is kept without being used.
const IDLE_LIMIT: Duration = Duration::from_millis(500);
/// The longest time for which a connection is used without going back to the pool. The pool closes
/// connections that are too old.
const USE_LIMIT: Duration = Duration::from_secs(5);

/// A connection that was taken from the pool, and the time of that.
pub(crate) struct Checkout {
    pub(crate) connection: PoolConnection<Postgres>,
    /// The time at which it was taken from the pool.
    taken_at: Instant,
}

impl Checkout {
    pub(crate) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection, taken_at: Instant::now() }
    }
}

#[derive(Default)]
struct State {
    /// The kept connections, each with the time when its statement ended. The most recently used
    /// one is the last.
    connections: Vec<(Checkout, Instant)>,
    /// The number of tasks that wait for the pool.
    waiting: usize,
    /// Connections that were made before this moment are not used any more.
    given_up: Option<Instant>,
    /// Whether a task returns unused connections.
    is_watched: bool,
    is_closed: bool,
}

/// The connections that are kept. Cheap to clone, and clones share them.
#[derive(Clone, Default)]
pub(crate) struct ReusableConnections(Arc<Mutex<State>>);

impl ReusableConnections {
    /// Returns the connection that was used last, or a guard to wait for a connection of the pool.
    pub(crate) fn take(&self) -> Result<Checkout, Waiting> {
        let mut state = self.lock();
        // A connection that was idle for long may have been cut in the meantime. Dropping it
        // returns it to the pool, which checks it.
        while let Some((checkout, ended_at)) = state.connections.pop() {
            if ended_at.elapsed() < IDLE_LIMIT {
                return Ok(checkout);
            }
        }
        state.waiting += 1;
        Err(Waiting(self.clone()))
    }

    /// Returns one connection to the pool. Connections that end while this guard exists go to the
    /// pool too.
    pub(crate) fn wait(&self) -> Waiting {
        let mut state = self.lock();
        drop(state.connections.pop());
        state.waiting += 1;
        Waiting(self.clone())
    }

    /// Keeps a connection on which a select has just succeeded.
    pub(crate) fn put_back(&self, checkout: Checkout) {
        let mut state = self.lock();
        let is_given_up = state.given_up.is_some_and(|moment| checkout.taken_at < moment);
        if state.is_closed || state.waiting > 0 || is_given_up || checkout.taken_at.elapsed() >= USE_LIMIT {
            return;
        }
        state.connections.push((checkout, Instant::now()));
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(self.clone().return_idle());
        }
    }

    /// Gives up all connections that exist now. None of them is used for another statement.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.given_up = Some(Instant::now());
        state.connections.clear();
    }

    /// Whether a connection of this age was given up.
    pub(crate) fn is_given_up(&self, age: Duration) -> bool {
        self.lock().given_up.is_some_and(|moment| moment.elapsed() < age)
    }

    /// Returns all connections to the pool, and keeps none from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.connections.clear();
    }

    /// Returns unused connections to the pool for as long as some are kept.
    async fn return_idle(self) {
        loop {
            tokio::time::sleep(IDLE_LIMIT).await;
            let mut state = self.lock();
            state.connections.retain(|(_, ended_at)| ended_at.elapsed() < IDLE_LIMIT);
            if state.connections.is_empty() {
                state.is_watched = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard that counts one task that waits for the pool.
pub(crate) struct Waiting(ReusableConnections);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
