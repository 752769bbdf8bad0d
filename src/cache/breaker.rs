//! The breaker: after several failures in a row L2 isn't asked any more, except by one probe at a time after a pause, for which
//! no request waits. Without it every request would pay the deadline for as long as Redis is ill.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::clock::Clock;

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;
/// Pause before a probe: from this up to half as much again, at random, so that instances don't probe together.
const PAUSE: Duration = Duration::from_millis(500);

/// State as metrics and pages show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are skipped.
    Open,
    /// One probe is under way; other calls are skipped.
    HalfOpen,
}

enum State {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing,
}

pub(super) struct Breaker {
    clock: Clock,
    state: Mutex<State>,
}

impl Breaker {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether to make a call.
    pub(super) fn admit(self: &Arc<Self>) -> Admission {
        let permit = || Permit { breaker: Arc::clone(self), reported: false };
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Admission::Call(permit()),
            State::Open { until } if self.clock.now() >= until => {
                *state = State::Probing;
                Admission::Probe(permit())
            }
            State::Open { .. } | State::Probing => Admission::Skip,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match *self.lock() {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing => BreakerState::HalfOpen,
        }
    }

    fn opened(&self) -> State {
        State::Open { until: self.clock.now() + PAUSE.mul_f64(1.0 + 0.5 * fastrand::f64()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the breaker lets a caller do.
pub(super) enum Admission {
    /// Make the call.
    Call(Permit),
    /// Skip the call, and see whether L2 is well again.
    Probe(Permit),
    /// Skip the call.
    Skip,
}

/// Leave to make one call. Dropped without a report (the caller went away), a probe counts as failed: otherwise a cancelled
/// probe would keep the breaker half open for ever.
pub(super) struct Permit {
    breaker: Arc<Breaker>,
    reported: bool,
}

impl Permit {
    pub(super) fn succeeded(mut self) {
        self.reported = true;
        *self.breaker.lock() = State::Closed { failures: 0 };
    }

    pub(super) fn failed(mut self) {
        self.reported = true;
        let mut state = self.breaker.lock();
        *state = match *state {
            State::Closed { failures } if failures + 1 < FAILURES => State::Closed { failures: failures + 1 },
            State::Open { until } => State::Open { until },
            State::Closed { .. } | State::Probing => self.breaker.opened(),
        };
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.breaker.lock();
        if !self.reported && matches!(*state, State::Probing) {
            *state = self.breaker.opened();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(clock: &Clock) -> Arc<Breaker> {
        Arc::new(Breaker::new(clock.clone()))
    }

    fn call(breaker: &Arc<Breaker>) -> Permit {
        let Admission::Call(permit) = breaker.admit() else { panic!("the breaker isn't closed") };
        permit
    }

    fn probe(breaker: &Arc<Breaker>) -> Option<Permit> {
        match breaker.admit() {
            Admission::Probe(permit) => Some(permit),
            Admission::Skip => None,
            Admission::Call(_) => panic!("the breaker is closed"),
        }
    }

    #[test]
    fn opens_after_failures_in_a_row_and_a_success_between_starts_the_count_again() {
        let breaker = breaker(&Clock::adjustable());
        for _ in 0..FAILURES - 1 {
            call(&breaker).failed();
        }
        call(&breaker).succeeded();
        call(&breaker).failed();
        assert_eq!(breaker.state(), BreakerState::Closed);
        for _ in 0..FAILURES - 1 {
            call(&breaker).failed();
        }
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(probe(&breaker).is_none(), "not before the pause is over");
    }

    #[test]
    fn one_probe_after_the_pause_closes_it_or_opens_it_again() {
        let clock = Clock::adjustable();
        let breaker = breaker(&clock);
        for _ in 0..FAILURES {
            call(&breaker).failed();
        }
        clock.advance(PAUSE * 2);
        let first = probe(&breaker).expect("a probe");
        assert!(probe(&breaker).is_none(), "only one probe at a time");
        drop(first);
        assert_eq!(breaker.state(), BreakerState::Open);
        clock.advance(PAUSE * 2);
        probe(&breaker).expect("another probe").succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
