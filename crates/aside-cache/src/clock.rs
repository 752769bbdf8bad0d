//! The instance's clock: the time since the machine started. Tests replace it, so that lifetimes
//! end without waiting. The code only ever uses differences within one machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// A clock of the time since the machine started.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self { ahead: None }
    }

    /// Returns a clock that runs with the machine's clock and can be advanced.
    ///
    /// ```
    /// use aside_cache::Clock;
    /// use std::time::Duration;
    ///
    /// let clock = Clock::adjustable();
    /// let before = clock.now();
    /// clock.advance(Duration::from_hours(1));
    /// assert!(clock.now() - before >= Duration::from_hours(1));
    /// ```
    #[cfg(any(test, feature = "test-util"))]
    pub fn adjustable() -> Self {
        Self { ahead: Some(Arc::default()) }
    }

    /// Advances an adjustable clock. It does nothing to the machine's clock.
    #[cfg(any(test, feature = "test-util"))]
    pub fn advance(&self, by: Duration) {
        if let Some(ahead) = &self.ahead {
            ahead.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
        }
    }

    /// The time since the machine started.
    pub fn now(&self) -> Duration {
        // Linux's CLOCK_MONOTONIC stops while a virtual machine is suspended. After an hour of
        // sleep, an instance would conclude that its last poll of the ledger was a moment ago.
        #[cfg(target_os = "linux")]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: ClockId = ClockId::Monotonic;

        let time = clock_gettime(CLOCK);
        let machine = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        match &self.ahead {
            Some(ahead) => machine + Duration::from_nanos(ahead.load(Ordering::SeqCst)),
            None => machine,
        }
    }
}
