//! Whether this instance wants requests: starting, ready, draining. Written by `app`, read by `GET /readyz`. Says nothing about
//! the database; the readiness route looks at that by itself. Imports nothing else of this crate.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Where an instance stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not warm yet.
    Starting,
    Ready,
    /// Going away: no new requests, please.
    Draining,
}

/// The phase, shared. Only moves forwards: an instance that drains never becomes ready again.
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
