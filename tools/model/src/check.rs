//! Explores a model and reports the result.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

use super::{events::Event, protocol::Protocol};

/// The seed of the random walks.
const SEED: u64 = 42;

/// The result of a run.
pub struct Outcome {
    pub name: &'static str,
    pub protocol: Protocol,
    pub unique: usize,
    pub generated: usize,
    pub took: Duration,
    /// Whether every state was visited.
    pub exhausted: bool,
    /// The broken promises, each with the number of steps until it broke.
    pub broken: Vec<(&'static str, usize)>,
    story: String,
}

/// Visits every state, or as many as possible within `limit`.
pub fn exhaust(name: &'static str, protocol: Protocol, limit: Duration) -> Outcome {
    let begun = Instant::now();
    let walk = protocol.clone().checker().threads(2).finish_when(HasDiscoveries::Any).timeout(limit).spawn_dfs().join();
    outcome(name, protocol, &walk, begun, begun.elapsed() < limit)
}

/// Searches for the shortest way to break `promise`.
pub fn refute(name: &'static str, protocol: Protocol, promise: &'static str) -> Outcome {
    let begun = Instant::now();
    let enough = HasDiscoveries::AllOf(BTreeSet::from([promise]));
    let walk = protocol.clone().checker().threads(2).finish_when(enough).spawn_bfs().join();
    outcome(name, protocol, &walk, begun, true)
}

/// Walks at random until a promise is broken, or for `steps` steps in all. The walk is always the
/// same. It is for models with too many states to visit.
pub fn wander(name: &'static str, protocol: Protocol, steps: usize) -> Outcome {
    let begun = Instant::now();
    let builder = protocol.clone().checker().finish_when(HasDiscoveries::Any).target_state_count(steps);
    let walk = builder.spawn_simulation(SEED, UniformChooser).join();
    outcome(name, protocol, &walk, begun, false)
}

fn outcome(
    name: &'static str,
    protocol: Protocol,
    walk: &impl Checker<Protocol>,
    begun: Instant,
    in_time: bool,
) -> Outcome {
    let discoveries = walk.discoveries();
    let story = discoveries.iter().map(|(promise, path)| {
        let steps: Vec<String> = path.clone().into_actions().iter().map(|step| format!("  {step:?}")).collect();
        format!("{promise}\n{}\n", steps.join("\n"))
    });
    let mut broken: Vec<_> =
        discoveries.iter().map(|(promise, path)| (*promise, path.clone().into_actions().len())).collect();
    broken.sort_unstable();
    Outcome {
        name,
        unique: walk.unique_state_count(),
        generated: walk.state_count(),
        took: begun.elapsed(),
        exhausted: discoveries.is_empty() && in_time,
        broken,
        story: story.collect(),
        protocol,
    }
}

impl Outcome {
    /// Asserts that every state was visited and every promise holds.
    pub fn holds(&self) -> &Self {
        assert!(self.broken.is_empty(), "{}: broken\n{}", self.name, self.story);
        assert!(self.exhausted, "{}: not all worlds were visited", self.name);
        self
    }

    /// Asserts that no promise was broken. Not every state has to be visited.
    pub fn breaks_nothing(&self) -> &Self {
        assert!(self.broken.is_empty(), "{}: broken\n{}", self.name, self.story);
        self
    }

    /// Asserts that the promise is broken.
    pub fn breaks(&self, promise: &str) -> &Self {
        let found = self.broken.iter().any(|(broken, _)| *broken == promise);
        assert!(found, "{}: {promise} is not broken; {:?} after {} worlds", self.name, self.broken, self.unique);
        self
    }

    /// Asserts that all of these events occurred.
    pub fn saw(&self, events: &[Event]) -> &Self {
        for event in events {
            assert!(self.protocol.events.count(*event) > 0, "{}: {event:?} never happened", self.name);
        }
        self
    }

    /// One row of the table.
    pub fn line(&self) -> String {
        let result = match self.broken.as_slice() {
            [] if self.exhausted => "holds".to_owned(),
            [] => "no violation, not exhausted".to_owned(),
            broken => broken
                .iter()
                .map(|(promise, steps)| format!("{} refuted in {steps} steps", promise.split(':').next().unwrap_or("")))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let seconds = self.took.as_secs_f64();
        format!("| {} | {} | {} | {seconds:.1} | {result} |", self.name, self.unique, self.generated)
    }
}
