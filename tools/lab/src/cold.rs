//! A cold catalogue, without Redis and with it, compared with the service without a cache.
//! `benches/peers/compare/src/miss.rs` describes the method.

use crate::{
    goals::{Goal, ratios},
    miss::{self, ALONE, Lane, PLAIN, WITH_REDIS, lane},
    peers::Peers,
};

/// For each number of clients, the lowest permitted rate of answers, as a multiple of the plain
/// program's.
const RATES: [(usize, f64); 2] = [(16, 1.0), (64, 1.5)];
/// The highest permitted median time of a miss with 8 clients, as a multiple of a plain select's.
const TIMES: [(&str, &str, f64); 2] = [(ALONE, "without Redis", 1.2), (WITH_REDIS, "with Redis", 1.4)];

pub fn measure(peers: &Peers, rounds: usize) -> Vec<Goal> {
    let lanes = miss::measure(&peers.catalogue, &peers.aside, &peers.database_url, &peers.redis_url, rounds);
    eprintln!("{}", miss::table(&lanes));
    let against = |name, clients, figure| {
        ratios(&lane(&lanes, name, clients).figures(figure), &lane(&lanes, PLAIN, clients).figures(figure))
    };
    let mut goals = Vec::new();
    for clients in [16, 64, 256] {
        let lane = lane(&lanes, ALONE, clients);
        goals.push(refusals(format!("cold catalogue, no Redis, {clients} clients: refused or failed"), lane));
    }
    goals.push(refusals("cold catalogue, Redis empty, 64 clients: refused or failed", lane(&lanes, WITH_REDIS, 64)));
    for (clients, goal) in RATES {
        let case = format!("cold catalogue, no Redis, {clients} clients: answers/s against plain");
        goals.push(Goal::at_least(case, &against(ALONE, clients, |sample| sample.rate), goal));
    }
    for (name, tiers, goal) in TIMES {
        let case = format!("a miss {tiers}, 8 clients: median against plain");
        goals.push(Goal::at_most(case, &against(name, 8, |sample| sample.p50), goal));
    }
    goals
}

fn refusals(case: impl Into<String>, lane: &Lane) -> Goal {
    let lost = lane.sum(|sample| sample.refused + sample.failed);
    Goal::none(case, lost, lost + lane.sum(|sample| sample.answered))
}
