//! Since when Redis or Postgres does not answer, and how many reads failed meanwhile.

use std::time::{Duration, Instant};

use aside_cache::{BreakerState, CacheStats};

use super::{EventKind, SOURCES};

/// The positions of these sources in a sample.
const STALE: usize = 4;
const FAILED: usize = 5;

/// The state of a dependency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dependency {
    /// The instance has none.
    #[default]
    Off,
    Up,
    Down(Outage),
}

/// An outage that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Its duration so far.
    pub lasts: Duration,
    /// Reads since its beginning that were answered with a stale value, and flagged.
    pub flagged: u64,
    /// Reads since its beginning that got no answer.
    pub failed: u64,
}

/// Follows both dependencies.
#[derive(Debug, Default)]
pub struct Watch {
    redis: Follower,
    postgres: Follower,
    memory_was_known: bool,
    reads: [u64; SOURCES.len()],
}

#[derive(Debug, Default)]
struct Follower {
    exists: bool,
    /// The beginning of the outage, and the reads up to then.
    down: Option<(Instant, [u64; SOURCES.len()])>,
}

impl Watch {
    /// Takes the state of this second, and returns the events that follow from it.
    pub fn look(
        &mut self,
        stats: &CacheStats,
        memory_known: bool,
        reads: &[u64; SOURCES.len()],
    ) -> Vec<(EventKind, String)> {
        self.memory_was_known |= memory_known;
        let before = std::mem::replace(&mut self.reads, *reads);
        // The breaker learns only from calls. Without calls, the polls of the memory show an outage.
        let redis =
            stats.l2_breaker.map(|breaker| breaker == BreakerState::Closed && (memory_known || !self.memory_was_known));
        // Before its first poll an instance is starting, and nothing was lost.
        let postgres = (stats.epoch > 0).then_some(stats.is_current);
        let redis = self.redis.look(redis, &before).map(|kind| (kind, "Redis"));
        let postgres = self.postgres.look(postgres, &before).map(|kind| (kind, "Postgres"));
        let event = |(kind, name): (EventKind, &str)| match kind {
            EventKind::Lost => (kind, format!("{name} lost")),
            _ => (kind, format!("{name} back")),
        };
        redis.into_iter().chain(postgres).map(event).collect()
    }

    pub fn redis(&self) -> Dependency {
        self.redis.state(&self.reads)
    }

    pub fn postgres(&self) -> Dependency {
        self.postgres.state(&self.reads)
    }
}

impl Follower {
    /// Takes the state of this second, `None` if there is no such dependency.
    fn look(&mut self, up: Option<bool>, before: &[u64; SOURCES.len()]) -> Option<EventKind> {
        self.exists = up.is_some();
        match (up, self.down) {
            (Some(false), None) => {
                self.down = Some((Instant::now(), *before));
                Some(EventKind::Lost)
            }
            (Some(true), Some(_)) => {
                self.down = None;
                Some(EventKind::Back)
            }
            _ => None,
        }
    }

    fn state(&self, reads: &[u64; SOURCES.len()]) -> Dependency {
        let since = |then: &[u64; SOURCES.len()], source: usize| reads[source].saturating_sub(then[source]);
        match self.down {
            Some((at, then)) => Dependency::Down(Outage {
                lasts: at.elapsed(),
                flagged: since(&then, STALE),
                failed: since(&then, FAILED),
            }),
            None if self.exists => Dependency::Up,
            None => Dependency::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_and_ends_once_and_counts_the_reads_of_its_time() {
        let mut follower = Follower::default();
        assert_eq!(follower.state(&[0; 6]), Dependency::Off);
        assert_eq!(follower.look(Some(true), &[0; 6]), None);
        assert_eq!(follower.state(&[0; 6]), Dependency::Up);
        assert_eq!(follower.look(Some(false), &[9, 9, 9, 9, 2, 1]), Some(EventKind::Lost));
        assert_eq!(follower.look(Some(false), &[9, 9, 9, 9, 3, 1]), None);
        let Dependency::Down(outage) = follower.state(&[9, 9, 9, 9, 7, 4]) else { panic!("it is down") };
        assert_eq!((outage.flagged, outage.failed), (5, 3));
        assert_eq!(follower.look(Some(true), &[9; 6]), Some(EventKind::Back));
        assert_eq!(follower.look(Some(true), &[9; 6]), None);
    }
}
