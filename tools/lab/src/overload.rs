//! Ten times as many requests as Postgres can serve. Measures how many are still answered, how
//! late, and how much memory it takes.

use crate::{
    catalogue::paths,
    goals::Goal,
    numbers::Spread,
    pace::blocking,
    peers::{Peers, client, clock},
    server::{Program, Sample, Server, begin_load},
};

const TIME_LIMIT_MS: u64 = 2_000;
const CLIENTS: [usize; 3] = [16, 32, 64];
/// How long the peak is measured for each number of clients.
const PEAK_MS: u64 = 1_500;
/// A multiple of the time limit, so that the waiting requests are few compared with the answered
/// ones.
const OVERLOAD_MS: u64 = 4 * TIME_LIMIT_MS;
/// The highest permitted growth of memory, in megabytes.
const MEMORY_MB: f64 = 32.0;

pub fn measure(peers: &Peers, slow_url: &str, rounds: usize) -> Vec<Goal> {
    let (mut parts, mut times, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lost, mut all) = (0.0, 0.0);
    for _ in 0..rounds {
        let program = Program::aside("Aside", &peers.aside, slow_url, "").with("CACHE_L1_BYTES", "0");
        let server = blocking(|| program.with("REQUEST_TIMEOUT_MS", &TIME_LIMIT_MS.to_string()).start());
        let peaks = CLIENTS.map(|clients| run(&server, peers, &client(clients, PEAK_MS)));
        let peak = Spread::of(&peaks.map(|sample| sample.rate)).high;
        let before = server.memory();
        let found = run(&server, peers, &clock(10.0 * peak, OVERLOAD_MS));
        eprintln!("  peak {peak:.0}/s; at ten times that: {found:?}");
        parts.push(found.rate / peak);
        times.push(found.p99);
        memory.push((server.memory() - before) / 1e6);
        lost += found.failed;
        all += found.answered + found.refused + found.failed;
    }
    let limit = TIME_LIMIT_MS as f64;
    vec![
        Goal::at_least("ten times what Postgres can do: answers/s against the most without overload", &parts, 0.9),
        Goal::at_most(
            "ten times what Postgres can do: 99 % of the answers, ms (the time limit is the goal)",
            &times,
            limit,
        ),
        Goal::at_most("ten times what Postgres can do: memory grown by, MB", &memory, MEMORY_MB),
        Goal::none("ten times what Postgres can do: neither answered nor refused", lost, all),
    ]
}

fn run(server: &Server, peers: &Peers, args: &[String]) -> Sample {
    let asked = paths("products", &peers.catalogue.shuffled());
    blocking(|| begin_load(server.address(), args, &asked).end())
}
