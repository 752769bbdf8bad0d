//! Programs under the same load in turn, and their table. The others are compared with the first
//! lane.

use crate::{
    numbers::{Spread, short},
    server::{Program, Sample, begin_load},
};

/// How long the requests that fill the tiers may take.
const FILL_SECONDS: f64 = 15.0;
const WARM_UP_SECONDS: f64 = 0.3;

/// A program under one load.
pub struct Lane {
    pub name: &'static str,
    pub program: Program,
    pub paths: Vec<String>,
    /// Further arguments of the client, beside clients and seconds.
    pub args: Vec<String>,
    /// Whether all requests are sent once before each measurement. Then the tier under test holds
    /// every requested value.
    pub is_filled: bool,
    pub samples: Vec<Sample>,
}

impl Lane {
    pub fn new(name: &'static str, program: &Program, paths: &[String]) -> Self {
        let (program, paths) = (program.clone(), paths.to_vec());
        Self { name, program, paths, args: Vec::new(), is_filled: true, samples: Vec::new() }
    }
}

/// Measures all lanes in turn, in this many rounds. Each measurement restarts its program.
pub fn measure(lanes: &mut [Lane], clients: usize, seconds: f64, rounds: usize) {
    for round in 0..rounds {
        eprintln!("  {clients} clients, round {} of {rounds}", round + 1);
        for step in 0..lanes.len() {
            let at = (round + step) % lanes.len();
            let lane = &mut lanes[at];
            let server = lane.program.start();
            let load = |seconds: f64, once: bool| {
                let own = ["--clients", &clients.to_string(), "--seconds", &seconds.to_string()].map(str::to_owned);
                let mut args: Vec<String> = own.into_iter().chain(lane.args.iter().cloned()).collect();
                args.extend(once.then(|| "--once".to_owned()));
                begin_load(server.address(), &args, &lane.paths).end()
            };
            if lane.is_filled {
                load(FILL_SECONDS, true);
            }
            // Connections and statements are as in a running service.
            load(WARM_UP_SECONDS, false);
            let sample = load(seconds, false);
            lane.samples.push(sample);
        }
    }
}

/// The figures of all lanes, as ratios to the first one.
pub fn table(title: &str, clients: usize, lanes: &[Lane]) -> String {
    let figures = |lane: &Lane, figure: fn(&Sample) -> f64| lane.samples.iter().map(figure).collect::<Vec<_>>();
    let row = |lane: &Lane| {
        let ratio = |figure| Spread::of_ratios(&figures(lane, figure), &figures(&lanes[0], figure)).cell();
        let median = |figure| short(Spread::of(&figures(lane, figure)).median);
        let lost = figures(lane, |sample| sample.refused + sample.failed).iter().fold(0.0, |sum, lost| sum + lost);
        let cells = [
            lane.name.to_owned(),
            lost.to_string(),
            median(|sample| sample.rate),
            median(|sample| sample.p99),
            ratio(|sample| sample.rate),
            ratio(|sample| sample.p50),
            ratio(|sample| sample.p99),
        ];
        format!("| {} |\n", cells.join(" | "))
    };
    format!(
        "{title}, {clients} clients\n\n\
         | program | refused or failed | answers/s | 99 %, ms | answers/s, ratio | p50, ratio | 99 %, ratio |\n\
         |---|---|---|---|---|---|---|\n{}",
        lanes.iter().map(row).collect::<String>()
    )
}
