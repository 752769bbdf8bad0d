//! A Postgres outage. Measures how soon a client gets its 503.

use crate::{
    catalogue::paths,
    environment::Environment,
    goals::Goal,
    pace::{blocking, millis, pause},
    peers::{Peers, client},
    server::{Program, begin_load},
};

/// The longest wait of a client until its 503, in milliseconds. While connections are refused it is
/// a quarter of the time limit. While nothing answers it is the time limit. Each has a tenth of a
/// quarter added for a busy machine.
const LIMITS: [(Fault, &str, f64); 2] = [(Fault::Killed, "killed", 2_750.0), (Fault::Frozen, "frozen", 10_250.0)];
const CLIENTS: usize = 16;
const LASTING_MS: u64 = 3_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Frozen,
}

pub async fn measure(environment: &mut Environment, peers: &Peers, rounds: usize) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (fault, name, limit) in LIMITS {
        let mut longest = Vec::new();
        for _ in 0..rounds {
            longest.push(run(environment, peers, fault).await);
        }
        goals.push(Goal::at_most(format!("Postgres {name}: longest time until a client is told, ms"), &longest, limit));
    }
    goals
}

async fn run(environment: &mut Environment, peers: &Peers, fault: Fault) -> f64 {
    let program = Program::aside("Aside", &peers.aside, &peers.database_url, "");
    let server = blocking(|| program.with("CACHE_L1_BYTES", "0").start());
    let asked = paths("products", &peers.catalogue.shuffled());
    // Opens connections, as in a busy service.
    blocking(|| begin_load(server.address(), &client(CLIENTS, 300), &asked).end());
    match fault {
        Fault::Killed => environment.postgres.stop(true).await,
        Fault::Frozen => environment.postgres.signal("STOP"),
    }
    pause(millis(50)).await;
    let found = blocking(|| begin_load(server.address(), &client(CLIENTS, LASTING_MS), &asked).end());
    match fault {
        Fault::Killed => environment.postgres.launch().await,
        Fault::Frozen => environment.postgres.signal("CONT"),
    }
    eprintln!("  {found:?}");
    found.refused_max
}
