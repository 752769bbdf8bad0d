//! The instance's own clock: time since the machine started. Read through a value that tests replace, so that lifetimes end
//! without anybody waiting. Only differences within one machine are ever used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Tells the time since the machine started.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self { ahead: None }
    }

    /// A clock that runs with the machine's and can be put forward.
    pub fn adjustable() -> Self {
        Self { ahead: Some(Arc::default()) }
    }

    /// Puts an adjustable clock forward; the machine's clock stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(ahead) = &self.ahead {
            ahead.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
        }
    }

    /// Time since the machine started.
    pub fn now(&self) -> Duration {
        // Linux's CLOCK_MONOTONIC stands still while a virtual machine is suspended: an instance that slept for an hour would
        // wake up believing that its last poll of the ledger was a moment ago.
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
