//! Misses on a cold catalogue. More and more clients request each product once from a service that
//! has just started. The service without a cache is measured too. Each of its requests is one plain
//! select.

use std::path::Path;

use crate::{
    catalogue::{Catalogue, paths},
    numbers::{Spread, short},
    redis_server::RedisServer,
    server::{Program, Sample, begin_load},
};

/// Requests before each measurement, for products outside of it. Connections and statements are
/// then as in a running service.
const WARM_UP: usize = 1_500;
/// The longest time of one measurement.
const SECONDS: f64 = 1.5;

pub const PLAIN: &str = "plain";
pub const ALONE: &str = "Aside";
pub const WITH_REDIS: &str = "Aside with Redis";

/// Samples of one program with this number of clients, one for each round.
pub struct Lane {
    pub program: Program,
    pub clients: usize,
    pub samples: Vec<Sample>,
}

impl Lane {
    /// One figure of all rounds.
    pub fn figures(&self, figure: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }

    pub fn sum(&self, figure: fn(&Sample) -> f64) -> f64 {
        self.figures(figure).iter().fold(0.0, |sum, figure| sum + figure)
    }
}

/// All programs with all numbers of clients, in this many rounds.
pub fn measure(catalogue: &Catalogue, aside: &Path, database_url: &str, redis_url: &str, rounds: usize) -> Vec<Lane> {
    let product = format!("/products/{}", catalogue.popular(1)[0]);
    let plain = Program::peer(PLAIN, "plain", database_url, "", &product);
    let alone = Program::aside(ALONE, aside, database_url, "");
    let both = Program::aside(WITH_REDIS, aside, database_url, redis_url);
    let lane = |program: &Program, clients| Lane { program: program.clone(), clients, samples: Vec::new() };
    let mut lanes = Vec::new();
    for clients in [8, 16, 64, 256] {
        lanes.extend([lane(&plain, clients), lane(&alone, clients)]);
    }
    lanes.extend([lane(&both, 8), lane(&both, 64)]);
    let mut redis = RedisServer::connect(redis_url);
    for round in 0..rounds {
        eprintln!("  round {} of {rounds}", round + 1);
        for step in 0..lanes.len() {
            let at = (round + step) % lanes.len();
            let lane = &mut lanes[at];
            redis.flush();
            lane.samples.push(cold(&lane.program, catalogue, lane.clients, SECONDS));
        }
    }
    lanes
}

/// Starts the program and requests each product once, until all were requested or the time is over.
pub fn cold(program: &Program, catalogue: &Catalogue, clients: usize, seconds: f64) -> Sample {
    let server = program.start();
    let all = paths("products", &catalogue.shuffled());
    let (before, measured) = all.split_at(WARM_UP);
    let load = |seconds: f64, paths: &[String]| {
        let args = ["--once", "--clients", &clients.to_string(), "--seconds", &seconds.to_string()].map(str::to_owned);
        begin_load(server.address(), &args, paths).end()
    };
    load(2.0, before);
    load(seconds, measured)
}

/// The lane of a program with this number of clients.
pub fn lane<'a>(lanes: &'a [Lane], name: &str, clients: usize) -> &'a Lane {
    lanes.iter().find(|lane| lane.program.name == name && lane.clients == clients).expect("a lane")
}

/// The figures as a table.
pub fn table(lanes: &[Lane]) -> String {
    let row = |lane_: &Lane| {
        let base = lane(lanes, PLAIN, lane_.clients);
        let ratio = |figure| Spread::of_ratios(&lane_.figures(figure), &base.figures(figure)).cell();
        let median = |figure| short(Spread::of(&lane_.figures(figure)).median);
        let cells = [
            lane_.clients.to_string(),
            lane_.program.name.to_owned(),
            lane_.sum(|sample| sample.answered).to_string(),
            lane_.sum(|sample| sample.refused).to_string(),
            lane_.sum(|sample| sample.failed).to_string(),
            median(|sample| sample.rate),
            median(|sample| sample.p50),
            median(|sample| sample.p99),
            ratio(|sample| sample.rate),
            ratio(|sample| sample.p50),
        ];
        format!("| {} |\n", cells.join(" | "))
    };
    let mut sorted: Vec<&Lane> = lanes.iter().collect();
    sorted.sort_by_key(|lane| lane.clients);
    format!(
        "| clients | program | answered | refused | failed | answers/s | p50, ms | 99 %, ms | answers/s against plain | p50 against plain |\n\
         |---|---|---|---|---|---|---|---|---|---|\n{}",
        sorted.into_iter().map(row).collect::<String>()
    )
}
