//! The state of admission: the work in flight, the waiting work and its order, and the usual
//! durations.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::oneshot;

use super::{Concurrency, Kind, Permit, Refusal, Request};
use crate::{
    admission::turns::{Queue, Turns, Waiting},
    key::Tenant,
};

/// The weight of a new duration in the moving average.
const WEIGHT: f64 = 0.125;
/// The limit for one duration: this many times the average plus some seconds. One slow load says
/// little about the next ones, so its duration counts at most this much.
const OUTLIER: (f64, f64) = (4.0, 0.005);

/// The class of a request, by which the first level of turns is taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    SharedLoads,
    TenantLoads,
    Writes,
}

impl Class {
    fn of(kind: Kind, tenant: Option<&Tenant>) -> Self {
        match (kind, tenant) {
            (Kind::Write, _) => Self::Writes,
            (Kind::Load, None) => Self::SharedLoads,
            (Kind::Load, Some(_)) => Self::TenantLoads,
        }
    }
}

/// A place in the queue.
pub(super) struct Ticket {
    pub(super) kind: Kind,
    pub(super) pattern: &'static str,
    pub(super) deadline: Duration,
    pub(super) grant: oneshot::Sender<Result<Permit, Refusal>>,
}

impl Waiting for Ticket {
    fn is_abandoned(&self) -> bool {
        self.grant.is_closed()
    }
}

/// The waiting requests of one tenant, or of shared data, by pattern.
type Patterns = Turns<&'static str, VecDeque<Ticket>>;

/// The state of the loads of one key pattern, or of writes.
#[derive(Default)]
struct Usage {
    pattern: &'static str,
    in_flight: usize,
    waiting: usize,
    usual: Average,
}

/// A moving average of durations, in seconds.
#[derive(Clone, Copy, Default)]
struct Average(f64);

impl Average {
    fn note(&mut self, took: Duration) {
        let took = took.as_secs_f64().min(OUTLIER.0 * self.0 + OUTLIER.1);
        self.0 += WEIGHT * (took - self.0);
    }
}

pub(super) struct State {
    pub(super) most: Concurrency,
    /// All waiting loads and writes, including those that share a place in the queue.
    pub(super) waiting: usize,
    /// The time at which the database last answered a load or a write.
    pub(super) answered_at: Duration,
    loads: usize,
    writes: usize,
    queue: Turns<Class, Turns<Option<Tenant>, Patterns>>,
    usages: Vec<Usage>,
    /// The average over all patterns.
    usual_load: Average,
    usual_write: Average,
}

impl State {
    pub(super) fn new(most: Concurrency) -> Self {
        Self {
            most,
            waiting: 0,
            answered_at: Duration::ZERO,
            loads: 0,
            writes: 0,
            queue: Turns::default(),
            usages: Vec::new(),
            usual_load: Average::default(),
            usual_write: Average::default(),
        }
    }

    pub(super) fn has_permit(&self, kind: Kind) -> bool {
        let of_kind = match kind {
            Kind::Load => self.loads < self.most.loads,
            Kind::Write => self.writes < self.most.writes,
        };
        of_kind && self.loads + self.writes < self.most.total
    }

    /// Whether at least half of the permits for loads are in use.
    pub(super) fn is_half_used(&self) -> bool {
        2 * self.loads >= self.most.loads
    }

    /// Records that a permit was granted.
    pub(super) fn begin(&mut self, kind: Kind, pattern: &'static str) {
        match kind {
            Kind::Load => self.loads += 1,
            Kind::Write => self.writes += 1,
        }
        self.usage(pattern).in_flight += 1;
    }

    /// Records that a permit was returned after this time.
    pub(super) fn end(&mut self, kind: Kind, pattern: &'static str, took: Duration) {
        let usage = self.usage(pattern);
        usage.in_flight -= 1;
        usage.usual.note(took);
        match kind {
            Kind::Load => {
                self.loads -= 1;
                self.usual_load.note(took);
            }
            Kind::Write => {
                self.writes -= 1;
                self.usual_write.note(took);
            }
        }
    }

    pub(super) fn start_waiting(&mut self, pattern: &'static str) {
        self.waiting += 1;
        self.usage(pattern).waiting += 1;
    }

    pub(super) fn stop_waiting(&mut self, pattern: &'static str) {
        self.waiting -= 1;
        self.usage(pattern).waiting -= 1;
    }

    pub(super) fn queue(&mut self, request: Request<'_>, grant: oneshot::Sender<Result<Permit, Refusal>>) {
        let Request { kind, pattern, tenant, deadline } = request;
        let ticket = Ticket { kind, pattern, deadline, grant };
        self.queue.push(&Class::of(kind, tenant), |tenants| {
            tenants.push(&tenant.cloned(), |patterns| patterns.push(&pattern, |tickets| tickets.push_back(ticket)));
        });
    }

    /// Takes the next ticket for which a permit is free out of the queue.
    pub(super) fn next(&mut self) -> Option<Ticket> {
        let (loads, writes) = (self.has_permit(Kind::Load), self.has_permit(Kind::Write));
        self.queue.pop_if(|class| if *class == Class::Writes { writes } else { loads })
    }

    pub(super) fn take_all(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| self.queue.pop()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.len() == 0
    }

    /// The usual duration of work with this pattern.
    pub(super) fn usual(&self, pattern: &'static str) -> Duration {
        let usage = self.usages.iter().find(|usage| usage.pattern == pattern);
        Duration::from_secs_f64(usage.map_or(0.0, |usage| usage.usual.0))
    }

    /// An estimate of the time for which a request that queues now will wait.
    pub(super) fn expected_wait(&self, Request { kind, pattern, tenant, .. }: Request<'_>) -> Duration {
        let (class, most) = (Class::of(kind, tenant), self.most);
        let len = |class| self.queue.of(&class).map_or(0, Queue::len);
        let (all, classes, permits, usual) = match kind {
            Kind::Write => (len(Class::Writes), 1, most.writes.min(most.total - self.loads), self.usual_write),
            Kind::Load => {
                let (shared, tenants) = (len(Class::SharedLoads), len(Class::TenantLoads));
                let other = if class == Class::SharedLoads { tenants } else { shared };
                let permits = most.loads.min(most.total - self.writes);
                (shared + tenants, 1 + usize::from(other > 0), permits, self.usual_load)
            }
        };
        // Each ticket behind the same keys waits for one round of the others.
        let tenant = tenant.cloned();
        let tenants = self.queue.of(&class);
        let patterns = tenants.and_then(|tenants| tenants.of(&tenant));
        let own = patterns.and_then(|patterns| patterns.of(&pattern)).map_or(0, VecDeque::len);
        let round = classes
            * tenants.map_or(1, |tenants| tenants.keys_with(&tenant))
            * patterns.map_or(1, |patterns| patterns.keys_with(&pattern));
        let turns = ((own + 1) * round).min(all + 1);
        Duration::from_secs_f64(turns as f64 * usual.0 / permits.max(1) as f64)
    }

    /// Adds a pattern to the usages if it is not there yet.
    pub(super) fn know(&mut self, pattern: &'static str) {
        self.usage(pattern);
    }

    /// The patterns, each with its numbers of loads and writes in flight and waiting.
    pub(super) fn usages(&self) -> Vec<(&'static str, usize, usize)> {
        self.usages.iter().map(|usage| (usage.pattern, usage.in_flight, usage.waiting)).collect()
    }

    fn usage(&mut self, pattern: &'static str) -> &mut Usage {
        let at = self.usages.iter().position(|usage| usage.pattern == pattern).unwrap_or_else(|| {
            self.usages.push(Usage { pattern, ..Usage::default() });
            self.usages.len() - 1
        });
        &mut self.usages[at]
    }
}
