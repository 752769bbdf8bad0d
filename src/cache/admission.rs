//! Admission: which load or write may use a connection to the database now, and which ones wait for their turn.
//!
//! There are fewer permits than connections in the pool, so waiting happens here, where it is fair, and not in the pool. A load or write that
//! finds no permit waits, bounded by time and not by a count: it is refused only if it could not end within the time limit of the request
//! that asked for it. That is decided on arrival, from what is ahead of it (Little's law: items ahead × usual duration ÷ permits), and again
//! when its turn comes. Judging a queue by the time that is spent in it instead of by its length is the idea of CoDel (Nichols and Jacobson,
//! "Controlling Queue Delay", 2012); not working on what its client has given up is that of Maurer, "Fail at Scale", 2015.
//!
//! Writes, loads of shared data and loads of tenants take turns, then tenants among each other, then key patterns: one that floods does not
//! starve the others, and one that is alone has all permits. Turns are counted, not weighed: an expensive load takes as many as a cheap one.

mod state;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use self::state::{State, Ticket};
use super::{clock::Clock, freshness::Freshness, key::Tenant, load::LoadFailure, policy::Policy};

/// The most that waits in an instance at a time. A bound on memory, far above what the bound on time lets through: more than this would
/// have to be answered within one time limit.
const MAX_WAITING: usize = 100_000;
/// Pause between two checks whether waiting has become hopeless.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// How much of the database an instance uses at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Loads at a time.
    pub loads: usize,
    /// Writes at a time. Less than `total`: writes that wait for a lock for minutes must leave connections for loads.
    pub writes: usize,
    /// Loads and writes at a time. At most the pool's connections, and best one less: other work needs one now and then.
    pub total: usize,
}

impl Concurrency {
    /// Shares out the connections of a pool: two thirds for loads at most, two fifths for writes at most. Of ten connections
    /// nine are used, six of them for loads and four for writes at most.
    pub fn of(connections: u32) -> Self {
        let connections = connections as usize;
        let total = connections.saturating_sub(1).max(2);
        Self { loads: (total * 2 / 3).max(1), writes: (connections * 2 / 5).max(1), total }
    }
}

/// What needs a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Load,
    Write,
}

/// Who asks for a permit.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) pattern: &'static str,
    pub(super) tenant: Option<&'a Tenant>,
    /// When the answer is of no use any more, by the instance's clock.
    pub(super) deadline: Duration,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    /// What is ahead would take until after the deadline.
    NoTime,
    /// The deadline came while it waited.
    TimedOut,
    /// More waits already than memory should be spent on.
    Full,
    /// The database can't be reached: waiting would only fail later.
    Unreachable,
}

impl Refusal {
    pub(super) const ALL: [Self; 4] = [Self::NoTime, Self::TimedOut, Self::Full, Self::Unreachable];

    /// The name in metrics.
    pub(super) const fn as_str(self) -> &'static str {
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
pub(super) enum Admitted {
    Now(Permit),
    Later(Turn),
}

struct Shared {
    clock: Clock,
    freshness: Arc<Freshness>,
    state: Mutex<State>,
}

/// Gives out permits. Cheap to clone.
#[derive(Clone)]
pub(super) struct Admission(Arc<Shared>);

impl Admission {
    pub(super) fn new(most: Concurrency, clock: Clock, freshness: Arc<Freshness>) -> Self {
        Self(Arc::new(Shared { clock, freshness, state: Mutex::new(State::new(most)) }))
    }

    /// A permit if there is one now, else a place in the queue.
    ///
    /// # Errors
    /// When a place in the queue would be of no use, or there is none.
    pub(super) fn request(&self, request: Request<'_>) -> Result<Admitted, Refusal> {
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
    /// When it does not come in time.
    pub(super) async fn wait(&self, turn: Turn, request: Request<'_>) -> Result<Permit, Refusal> {
        let _waiter = self.waiter(request.pattern);
        let left = request.deadline.saturating_sub(self.0.clock.now());
        tokio::time::timeout(left, turn).await.unwrap_or(Err(Refusal::TimedOut))
    }

    /// Waits for a permit, until the deadline of its request.
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) async fn acquire(&self, request: Request<'_>) -> Result<Permit, Refusal> {
        match self.request(request)? {
            Admitted::Now(permit) => Ok(permit),
            Admitted::Later(turn) => self.wait(turn, request).await,
        }
    }

    /// Counts somebody who waits, until the value is dropped.
    pub(super) fn waiter(&self, pattern: &'static str) -> WaitGuard {
        self.lock().start_waiting(pattern);
        WaitGuard { admission: self.clone(), pattern }
    }

    /// Fails all that wait when the database can't be reached, so that nobody waits for a turn to fail.
    pub(super) async fn watch(&self) {
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
        tracing::warn!(waiting = hopeless.len(), "Postgres does not answer: what waits for a connection fails now");
        for ticket in hopeless {
            let _ = ticket.grant.send(Err(Refusal::Unreachable));
        }
    }

    /// What is in flight and what waits: of these types, and of whatever else ever asked.
    pub(super) fn usages(&self, policies: &[Policy]) -> Vec<(&'static str, usize, usize)> {
        let mut state = self.lock();
        policies.iter().for_each(|policy| state.know(policy.name));
        state.usages()
    }

    /// How much is admitted at a time.
    pub(super) fn most(&self) -> Concurrency {
        self.lock().most
    }

    /// Neither a poll of the ledger nor a load nor a write has been answered for a while. A permit that is free is given out all the same:
    /// whoever holds it finds out whether the database is back.
    fn is_unreachable(&self, state: &State, now: Duration) -> bool {
        self.0.freshness.is_database_down()
            && self.0.freshness.exceeds_outage_threshold(now.saturating_sub(state.answered_at))
    }

    fn permit(&self, kind: Kind, pattern: &'static str, since: Duration) -> Permit {
        Permit { admission: self.clone(), kind, pattern, since }
    }

    /// Takes a permit back and gives permits to those whose turn it is.
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
        // Not under the lock: a permit whose taker has just gone comes back at once.
        for (grant, answer) in answers {
            let _ = grant.send(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to use one connection. Dropped, it goes to whoever is next.
pub(super) struct Permit {
    admission: Admission,
    kind: Kind,
    pattern: &'static str,
    since: Duration,
}

impl Permit {
    /// Says that the database has answered.
    pub(super) fn answered(&self) {
        let now = self.admission.0.clock.now();
        self.admission.lock().answered_at = now;
    }

    /// How long what it was given for usually takes.
    pub(super) fn usual(&self) -> Duration {
        self.admission.lock().usual(self.pattern)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.release(self);
    }
}

/// A place in the queue. Dropped, it is given up.
pub(super) struct Turn(oneshot::Receiver<Result<Permit, Refusal>>);

impl Future for Turn {
    type Output = Result<Permit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The queue goes without a word only with the process.
        Pin::new(&mut self.0).poll(context).map(|granted| granted.unwrap_or(Err(Refusal::Unreachable)))
    }
}

/// Somebody who waits.
pub(super) struct WaitGuard {
    admission: Admission,
    pattern: &'static str,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.admission.lock().stop_waiting(self.pattern);
    }
}
