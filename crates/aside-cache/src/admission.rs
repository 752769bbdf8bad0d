//! Admission decides which load or write may use a connection to the database now, and which ones
//! wait for their turn.
//!
//! The pool has more connections than admission has permits. Work therefore waits here, where the
//! order is fair, and not in the pool. A load or write that finds no permit waits. The limit on
//! waiting is a time and not a count. Admission refuses the work only if it could not end within
//! the time limit of its request. It decides this on arrival, from the work that is ahead (Little's
//! law: items ahead × usual duration ÷ permits). It decides again when the turn comes.
//!
//! CoDel has the idea of judging a queue by the time spent in it instead of by its length (Nichols
//! and Jacobson, "Controlling Queue Delay", 2012). Maurer, "Fail at Scale", 2015, has the idea of
//! not working on requests that their clients have given up.
//!
//! Writes, loads of shared data and loads of tenants take turns. Within each, tenants take turns,
//! and then key patterns. A tenant or pattern that floods the queue does not starve the others, and
//! one that is alone has all permits. Turns are counted and not weighed, so an expensive load takes
//! as many turns as a cheap one.

mod state;
#[cfg(test)]
mod tests;
pub(crate) mod turns;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use self::state::{State, Ticket};
use crate::{clock::Clock, consistency::freshness::Freshness, key::Tenant, policy::Policy, read::load::LoadFailure};

/// The largest number of loads and writes that may wait in an instance at a time. It bounds memory
/// and is far above the number that the time limit lets through. With more waiting, all of them
/// would have to be answered within one time limit.
const MAX_WAITING: usize = 100_000;
/// Pause between two checks whether the database is down, so that waiting is useless.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// The largest numbers of loads and writes of one instance that use the database at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Loads at a time.
    pub loads: usize,
    /// Writes at a time. It is less than `total`, because writes can wait minutes for a lock and
    /// must leave connections for loads.
    pub writes: usize,
    /// Loads and writes at a time. It is at most the number of the pool's connections. One less is
    /// best, because other work sometimes needs a connection.
    pub total: usize,
}

impl Concurrency {
    /// Divides the connections of a pool: at most two thirds for loads and at most two fifths for
    /// writes. Of ten connections, nine are used, at most six of them for loads and four for
    /// writes.
    ///
    /// ```
    /// use aside_cache::Concurrency;
    ///
    /// assert_eq!(Concurrency::of(10), Concurrency { loads: 6, writes: 4, total: 9 });
    /// ```
    pub fn of(connections: u32) -> Self {
        let connections = connections as usize;
        let total = connections.saturating_sub(1).max(2);
        Self { loads: (total * 2 / 3).max(1), writes: (connections * 2 / 5).max(1), total }
    }
}

/// The kinds of work that need a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Load,
    Write,
}

/// A request for a permit.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) kind: Kind,
    pub(crate) pattern: &'static str,
    pub(crate) tenant: Option<&'a Tenant>,
    /// The time after which the answer is useless, by the instance's clock.
    pub(crate) deadline: Duration,
}

/// The reason why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// The work ahead would take until after the deadline.
    NoTime,
    /// The deadline passed while the request waited.
    TimedOut,
    /// Already as many wait as memory allows.
    Full,
    /// The database can't be reached, so waiting would only fail later.
    Unreachable,
}

impl Refusal {
    pub(crate) const ALL: [Self; 4] = [Self::NoTime, Self::TimedOut, Self::Full, Self::Unreachable];

    /// The name in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoTime => "no_time",
            Self::TimedOut => "timed_out",
            Self::Full => "full",
            Self::Unreachable => "unreachable",
        }
    }
}

impl From<Refusal> for LoadFailure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unreachable => Self::Unreachable,
            Refusal::NoTime | Refusal::TimedOut | Refusal::Full => Self::Overloaded,
        }
    }
}

/// The answer to a [`Request`].
pub(crate) enum Admitted {
    Now(Permit),
    Later(Turn),
}

struct Shared {
    clock: Clock,
    freshness: Arc<Freshness>,
    state: Mutex<State>,
}

/// Grants permits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Shared>);

impl Admission {
    pub(crate) fn new(most: Concurrency, clock: Clock, freshness: Arc<Freshness>) -> Self {
        Self(Arc::new(Shared { clock, freshness, state: Mutex::new(State::new(most)) }))
    }

    /// Returns a permit if one is free now, and otherwise a place in the queue.
    ///
    /// # Errors
    /// Returns an error if a place in the queue would be useless, or if the queue is full.
    pub(crate) fn request(&self, request: Request<'_>) -> Result<Admitted, Refusal> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        if state.has_permit(request.kind) {
            state.begin(request.kind, request.pattern);
            return Ok(Admitted::Now(self.permit(request.kind, request.pattern, now)));
        }
        if state.waiting >= MAX_WAITING {
            return Err(Refusal::Full);
        }
        if self.is_unreachable(&state, now) {
            return Err(Refusal::Unreachable);
        }
        if now + state.expected_wait(request) + state.usual(request.pattern) > request.deadline {
            return Err(Refusal::NoTime);
        }
        let (grant, granted) = oneshot::channel();
        state.queue(request, grant);
        Ok(Admitted::Later(Turn(granted)))
    }

    /// Waits for a turn, until the deadline of its request.
    ///
    /// # Errors
    /// Returns an error if the turn does not come in time.
    pub(crate) async fn wait(&self, turn: Turn, request: Request<'_>) -> Result<Permit, Refusal> {
        let _waiter = self.waiter(request.pattern);
        let left = request.deadline.saturating_sub(self.0.clock.now());
        tokio::time::timeout(left, turn).await.unwrap_or(Err(Refusal::TimedOut))
    }

    /// Waits for a permit, until the deadline of its request.
    ///
    /// # Errors
    /// Returns an error if no permit is free in time.
    pub(crate) async fn acquire(&self, request: Request<'_>) -> Result<Permit, Refusal> {
        match self.request(request)? {
            Admitted::Now(permit) => Ok(permit),
            Admitted::Later(turn) => self.wait(turn, request).await,
        }
    }

    /// Counts one waiting load or write until the returned guard is dropped.
    pub(crate) fn waiter(&self, pattern: &'static str) -> WaitGuard {
        self.lock().start_waiting(pattern);
        WaitGuard { admission: self.clone(), pattern }
    }

    /// Fails all waiting work when the database can't be reached. No request then waits for a turn
    /// that can only fail.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            self.fail_hopeless();
        }
    }

    fn fail_hopeless(&self) {
        let mut state = self.lock();
        if state.is_empty() || !self.is_unreachable(&state, self.0.clock.now()) {
            return;
        }
        let hopeless: Vec<Ticket> = state.take_all();
        drop(state);
        tracing::warn!(waiting = hopeless.len(), "Postgres does not answer: waiting requests fail now");
        for ticket in hopeless {
            let _ = ticket.grant.send(Err(Refusal::Unreachable));
        }
    }

    /// The numbers of loads and writes in flight and waiting. The list has these types and every
    /// other pattern that ever asked for a permit.
    pub(crate) fn usages(&self, policies: &[Policy]) -> Vec<(&'static str, usize, usize)> {
        let mut state = self.lock();
        policies.iter().for_each(|policy| state.know(policy.name));
        state.usages()
    }

    /// The largest numbers of loads and writes at a time.
    pub(crate) fn most(&self) -> Concurrency {
        self.lock().most
    }

    /// Whether work waits, or uses at least half of the permits for loads.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.lock();
        state.waiting > 0 || state.is_half_used()
    }

    /// Whether no poll of the ledger, no load and no write was answered for a while. A free permit
    /// is granted all the same, because its holder finds out whether the database answers again.
    fn is_unreachable(&self, state: &State, now: Duration) -> bool {
        self.0.freshness.is_database_down()
            && self.0.freshness.exceeds_outage_threshold(now.saturating_sub(state.answered_at))
    }

    fn permit(&self, kind: Kind, pattern: &'static str, since: Duration) -> Permit {
        Permit { admission: self.clone(), kind, pattern, since }
    }

    /// Takes a permit back and grants permits to the next requests in turn.
    fn release(&self, permit: &Permit) {
        let now = self.0.clock.now();
        let mut state = self.lock();
        state.end(permit.kind, permit.pattern, now.saturating_sub(permit.since));
        let mut answers = Vec::new();
        while let Some(Ticket { kind, pattern, deadline, grant }) = state.next() {
            let in_time = now + state.usual(pattern) <= deadline;
            if in_time {
                state.begin(kind, pattern);
            }
            answers.push((grant, in_time.then(|| self.permit(kind, pattern, now)).ok_or(Refusal::TimedOut)));
        }
        drop(state);
        // The answers are sent after the lock is released. A permit whose receiver has just
        // disappeared is dropped at once, and its drop takes the lock again.
        for (grant, answer) in answers {
            let _ = grant.send(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use one connection. When it is dropped, the next request in turn gets it.
pub(crate) struct Permit {
    admission: Admission,
    kind: Kind,
    pattern: &'static str,
    since: Duration,
}

impl Permit {
    /// Records that the database has answered.
    pub(crate) fn answered(&self) {
        let now = self.admission.0.clock.now();
        self.admission.lock().answered_at = now;
    }

    /// The usual duration of the work that this permit is for.
    pub(crate) fn usual(&self) -> Duration {
        self.admission.lock().usual(self.pattern)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.release(self);
    }
}

/// A place in the queue. Dropping it gives the place up.
pub(crate) struct Turn(oneshot::Receiver<Result<Permit, Refusal>>);

impl Future for Turn {
    type Output = Result<Permit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The queue is dropped without an answer only when the process ends.
        Pin::new(&mut self.0).poll(context).map(|granted| granted.unwrap_or(Err(Refusal::Unreachable)))
    }
}

/// A guard that counts one waiting load or write.
pub(crate) struct WaitGuard {
    admission: Admission,
    pattern: &'static str,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.admission.lock().stop_waiting(self.pattern);
    }
}
