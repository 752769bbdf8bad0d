//! Whether this instance accepts requests: starting, ready or draining. `app` writes it, and
//! `GET /readyz` reads it. It does not cover the database, which the readiness route checks itself.
//! This module imports nothing else of this crate.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// The phase of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Warming has not ended yet.
    Starting,
    Ready,
    /// Shutting down: the instance wants no new requests.
    Draining,
}

/// The shared phase. It only moves forward: an instance that drains never becomes ready again.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    pub fn set_ready(&self) {
        self.0.fetch_max(1, Ordering::AcqRel);
    }

    pub fn set_draining(&self) {
        self.0.fetch_max(2, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_instance_never_becomes_ready_again() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
