//! Redis is killed or frozen under many clients of an instance whose L1 holds a part of the
//! catalogue. Counts the refused requests.

use crate::{
    catalogue::paths,
    environment::Environment,
    goals::Goal,
    pace::{blocking, millis, pause},
    peers::{Peers, client},
    server::{Program, begin_load},
};

/// L1 has room for only a part of the catalogue.
const L1_BYTES: &str = "1000000";
/// The length of each phase: before the fault, during it, and after Redis is back.
const PHASE_MS: u64 = 1_200;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Frozen,
}

pub async fn measure(environment: &mut Environment, peers: &Peers, rounds: usize) -> Vec<Goal> {
    let mut goals = Vec::new();
    for clients in [64, 256] {
        for (fault, name) in [(Fault::Killed, "killed"), (Fault::Frozen, "frozen")] {
            let (mut lost, mut all) = (0.0, 0.0);
            for _ in 0..rounds {
                let sample = run(environment, peers, fault, clients).await;
                lost += sample.refused + sample.failed;
                all += sample.refused + sample.failed + sample.answered;
            }
            goals.push(Goal::none(
                format!("Redis {name}, L1 of 1 MB, {clients} clients: refused or failed"),
                lost,
                all,
            ));
        }
    }
    goals
}

async fn run(environment: &mut Environment, peers: &Peers, fault: Fault, clients: usize) -> crate::server::Sample {
    let program = Program::aside("Aside", &peers.aside, &peers.database_url, &peers.redis_url);
    let server = blocking(|| program.with("CACHE_L1_BYTES", L1_BYTES).start());
    let asked = paths("products", &peers.catalogue.popular(100_000));
    let running = begin_load(server.address(), &client(clients, 3 * PHASE_MS), &asked);
    pause(millis(PHASE_MS)).await;
    match fault {
        Fault::Killed => environment.redis.kill().await,
        Fault::Frozen => environment.redis.signal("STOP"),
    }
    pause(millis(PHASE_MS)).await;
    match fault {
        Fault::Killed => environment.redis.launch().await,
        Fault::Frozen => environment.redis.signal("CONT"),
    }
    blocking(|| running.end())
}
