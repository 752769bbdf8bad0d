//! The breaker: after several failures in a row L2 isn't asked any more, except by one probe after a pause, for which no request
//! waits. Without it every request would pay the deadline for as long as Redis is unhealthy.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::clock::Clock;

/// Failures in a row that open the breaker.
const MAX_FAILURES: u32 = 5;
/// Pause before a probe (the HALF_OPEN state): from this up to half as much again, at random, so that instances don't probe together.
const OPEN_PAUSE: Duration = Duration::from_millis(500);

/// State as metrics and pages show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are skipped, and now and then a probe is made.
    Open,
}

/// What the breaker lets a caller do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallDecision {
    /// Make the call.
    Call,
    /// Skip the call, and see whether L2 is healthy again.
    Probe,
    /// Skip the call.
    Skip,
}

enum State {
    Closed { failures: u32 },
    Open { until: Duration },
}

pub(super) struct Breaker {
    clock: Clock,
    state: Mutex<State>,
}

impl Breaker {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether to make a call. A probe that is never heard of again is tried again after the next pause.
    pub(super) fn try_acquire(&self) -> CallDecision {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => CallDecision::Call,
            State::Open { until } if self.clock.now() >= until => {
                *state = self.opened();
                CallDecision::Probe
            }
            State::Open { .. } => CallDecision::Skip,
        }
    }

    /// How a call ended: well, or why not. One that was admitted before the breaker opened says nothing any more.
    pub(super) fn record_call(&self, ended: Result<(), &str>) {
        let mut state = self.lock();
        if let State::Closed { failures } = *state {
            *state = match (ended, failures + 1) {
                (Ok(()), _) => State::Closed { failures: 0 },
                (Err(_), failures) if failures < MAX_FAILURES => State::Closed { failures },
                (Err(reason), failures) => {
                    tracing::warn!(failures, reason, "L2 fails: it is skipped until it answers again");
                    self.opened()
                }
            };
        }
    }

    /// How a probe ended.
    pub(super) fn record_probe(&self, ok: bool) {
        if ok {
            tracing::info!("L2 answers again and is used");
        }
        *self.lock() = if ok { State::Closed { failures: 0 } } else { self.opened() };
    }

    pub(super) fn state(&self) -> BreakerState {
        match *self.lock() {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
        }
    }

    fn opened(&self) -> State {
        State::Open { until: self.clock.now() + OPEN_PAUSE.mul_f64(1.0 + 0.5 * fastrand::f64()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(breaker: &Breaker, ok: bool) {
        assert_eq!(breaker.try_acquire(), CallDecision::Call);
        breaker.record_call(if ok { Ok(()) } else { Err("it is tried") });
    }

    #[test]
    fn opens_after_failures_in_a_row_and_a_success_between_starts_the_count_again() {
        let breaker = Breaker::new(Clock::adjustable());
        (1..MAX_FAILURES).for_each(|_| call(&breaker, false));
        call(&breaker, true);
        (1..MAX_FAILURES).for_each(|_| call(&breaker, false));
        assert_eq!(breaker.state(), BreakerState::Closed);
        call(&breaker, false);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.try_acquire(), CallDecision::Skip, "not before the pause is over");
        breaker.record_call(Ok(()));
        assert_eq!(breaker.state(), BreakerState::Open, "a call of before says nothing any more");
    }

    #[test]
    fn one_probe_after_the_pause_closes_it_or_opens_it_again() {
        let clock = Clock::adjustable();
        let breaker = Breaker::new(clock.clone());
        (0..MAX_FAILURES).for_each(|_| call(&breaker, false));
        for ok in [false, true] {
            clock.advance(OPEN_PAUSE * 2);
            assert_eq!(breaker.try_acquire(), CallDecision::Probe);
            assert_eq!(breaker.try_acquire(), CallDecision::Skip, "only one probe at a time");
            breaker.record_probe(ok);
        }
        call(&breaker, true);
    }
}
