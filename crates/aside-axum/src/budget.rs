//! The budget of loads that clients may force.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A number of loads per second for one instance. Each request that asks to bypass the tiers takes
/// one.
#[derive(Debug)]
pub(crate) struct LoadBudget {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    used: u32,
}

impl LoadBudget {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, window: Mutex::new(Window { began: Instant::now(), used: 0 }) }
    }

    /// Takes a load from the budget of this second. It returns `false` if none is left.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.began) >= Duration::from_secs(1) {
            *window = Window { began: now, used: 0 };
        }
        window.used = window.used.saturating_add(1);
        window.used <= self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_granted_up_to_the_limit_in_each_second() {
        let budget = LoadBudget::new(2);
        let start = Instant::now() + Duration::from_secs(5);
        assert_eq!([0, 1, 2].map(|_| budget.take(start)), [true, true, false]);
        assert!(!budget.take(start + Duration::from_millis(999)));
        assert!(budget.take(start + Duration::from_secs(1)));
    }
}
