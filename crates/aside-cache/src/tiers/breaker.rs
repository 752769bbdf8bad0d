//! The circuit breaker of L2. After several failures in a row, no request calls L2. After a pause,
//! one probe calls it, and no request waits for the probe. Without the breaker, every request would
//! wait for the whole deadline while Redis is down.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::Clock;

/// The number of failures in a row that opens the breaker.
const MAX_FAILURES: u32 = 5;
/// The shortest pause before a probe (the HALF_OPEN state). The pause is up to half as much again,
/// at random, so that instances don't probe together.
const OPEN_PAUSE: Duration = Duration::from_millis(500);

/// The state as metrics and pages show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// Calls are skipped, and a probe is made from time to time.
    Open,
}

/// The decision of the breaker about one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallDecision {
    /// Make the call.
    Call,
    /// Skip the call, and probe whether L2 answers again.
    Probe,
    /// Skip the call.
    Skip,
}

enum State {
    Closed { failures: u32 },
    Open { until: Duration },
}

pub(crate) struct Breaker {
    clock: Clock,
    state: Mutex<State>,
}

impl Breaker {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Decides whether to make a call. A probe without a result is repeated after the next pause.
    pub(crate) fn try_acquire(&self) -> CallDecision {
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

    /// Records the result of a call, with the reason if it failed. A call that began before the
    /// breaker opened has no effect any more.
    pub(crate) fn record_call(&self, ended: Result<(), &str>) {
        let mut state = self.lock();
        if let State::Closed { failures } = *state {
            *state = match (ended, failures + 1) {
                (Ok(()), _) => State::Closed { failures: 0 },
                (Err(_), failures) if failures < MAX_FAILURES => State::Closed { failures },
                (Err(reason), failures) => {
                    tracing::warn!(failures, reason, "L2 is down: circuit breaker open");
                    self.opened()
                }
            };
        }
    }

    /// Records the result of a probe.
    pub(crate) fn record_probe(&self, ok: bool) {
        if ok {
            tracing::info!("L2 is up again: circuit breaker closed");
        }
        *self.lock() = if ok { State::Closed { failures: 0 } } else { self.opened() };
    }

    pub(crate) fn state(&self) -> BreakerState {
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
