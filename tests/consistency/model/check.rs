//! Walks through a model and says what came of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

use super::{events::Event, protocol::Protocol};

/// Where random walks begin.
const SEED: u64 = 42;

/// What a walk brought.
pub struct Outcome {
    pub name: &'static str,
    pub protocol: Protocol,
    pub unique: usize,
    pub generated: usize,
    pub took: Duration,
    /// Whether every world was visited.
    pub exhausted: bool,
    /// The promises that were broken, with the number of steps of the way there.
    pub broken: Vec<(&'static str, usize)>,
    story: String,
}

/// Visits every world, or as many as fit into `limit`.
pub fn exhaust(name: &'static str, protocol: Protocol, limit: Duration) -> Outcome {
    let begun = Instant::now();
    let walk = protocol.clone().checker().threads(2).finish_when(HasDiscoveries::Any).timeout(limit).spawn_dfs().join();
    outcome(name, protocol, &walk, begun, begun.elapsed() < limit)
}

/// Looks for the shortest way to break `promise`.
pub fn refute(name: &'static str, protocol: Protocol, promise: &'static str) -> Outcome {
    let begun = Instant::now();
    let enough = HasDiscoveries::AllOf(BTreeSet::from([promise]));
    let walk = protocol.clone().checker().threads(2).finish_when(enough).spawn_bfs().join();
    outcome(name, protocol, &walk, begun, true)
}

/// Walks at random, `steps` steps in all or until a promise is broken, always the same way: for worlds too many to visit.
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
    /// Every world was visited, and every promise holds in it.
    pub fn holds(&self) -> &Self {
        assert!(self.broken.is_empty(), "{}: broken\n{}", self.name, self.story);
        assert!(self.exhausted, "{}: not all worlds were visited", self.name);
        self
    }

    /// Nothing was broken, though not every world was visited.
    pub fn breaks_nothing(&self) -> &Self {
        assert!(self.broken.is_empty(), "{}: broken\n{}", self.name, self.story);
        self
    }

    /// The promise is broken.
    pub fn breaks(&self, promise: &str) -> &Self {
        let found = self.broken.iter().any(|(broken, _)| *broken == promise);
        assert!(found, "{}: {promise} is not broken; {:?} after {} worlds", self.name, self.broken, self.unique);
        self
    }

    /// All of these happened.
    pub fn saw(&self, events: &[Event]) -> &Self {
        for event in events {
            assert!(self.protocol.events.count(*event) > 0, "{}: {event:?} never happened", self.name);
        }
        self
    }

    /// A line of the table.
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
