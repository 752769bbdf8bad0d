//! Random faults for a long time under steady load, and afterwards a search for leaks of memory,
//! tasks, connections and file descriptors.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aside_testkit::{eventually, proxy::Fault};
use sqlx::PgPool;

use crate::{
    environment::{Environment, Instance, Shared},
    load::{Asked, End, by_the_clock, count},
    numbers::{grouped, short},
    report::Section,
};

const RATE: f64 = 200.0;
/// The length of a fault, and of the pause after it.
const FAULT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(3);
/// How long the service may hold resources after the load has ended.
const CALM: Duration = Duration::from_secs(12);
/// The highest permitted growth of memory, once every part of the service has been used.
const SLACK: f64 = 24e6;

/// The resources that an instance holds.
struct Holdings {
    memory: f64,
    files: usize,
    tasks: f64,
    connections: f64,
    /// Changes without a tag that the comparison of values reported.
    unnamed: f64,
}

impl Holdings {
    async fn of(instance: &Instance, db: &PgPool) -> Self {
        let sql = "select count(*) from pg_stat_activity where application_name = 'aside'";
        // The run's own connection may have broken in one of the faults.
        let count = || async { sqlx::query_scalar::<_, i64>(sql).fetch_one(db).await.ok() };
        let connections = eventually("Postgres counts its connections", count).await as f64;
        let metrics = eventually("the instance's metrics", || instance.metrics()).await;
        Self {
            memory: instance.memory(),
            files: instance.files(),
            tasks: metrics.sum("tokio_tasks_alive", &[]),
            unnamed: metrics.sum("cache_unnamed_changes_total", &[]),
            connections,
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let whole = |number: f64| grouped(number as i64);
        vec![
            name.to_owned(),
            short(self.memory / 1e6),
            whole(self.tasks),
            whole(self.connections),
            whole(self.files as f64),
        ]
    }
}

pub async fn measure(environment: &mut Environment, seconds: u64) -> Section {
    let instance = Arc::new(environment.instance("soak", Shared::Redis, &[("CACHE_L1_BYTES", "4000000")]).await);
    // Some resources are kept after their first use: pools, buffers and L1. So the first check
    // comes after some faults.
    let rounds = (seconds / (FAULT + PAUSE).as_secs()).max(4);
    let early = (rounds / 4).max(2);
    let first = spell(environment, &instance, early).await;
    let before = Holdings::of(&instance, &environment.db).await;
    let second = spell(environment, &instance, rounds - early).await;
    let after = Holdings::of(&instance, &environment.db).await;
    let asked = [first, second].concat();
    let mut section = Section {
        title: "A soak",
        method: format!(
            "One instance under {RATE} requests a second, with {rounds} random faults of {} s and pauses of {} s: Redis frozen, killed; \
             Postgres frozen, killed, cut off, far away. {} requests: {} refused, {} failed. What the instance holds after {early} faults \
             and at the end, each {} s after the last request.",
            FAULT.as_secs(),
            PAUSE.as_secs(),
            grouped(asked.len() as i64),
            grouped(count(&asked, End::Refused) as i64),
            grouped(count(&asked, End::Failed) as i64),
            CALM.as_secs()
        ),
        columns: ["", "memory, MB", "tasks", "connections to Postgres", "file descriptors"].map(str::to_owned).to_vec(),
        rows: vec![before.row("early"), after.row("at the end")],
        picture: None,
        checks: Vec::new(),
    };
    section.check("every request is answered, and none with an error", count(&asked, End::Failed) == 0);
    section.check("memory has not grown by more than 24 MB", after.memory - before.memory <= SLACK);
    section.check("tasks are given back", after.tasks <= before.tasks + 8.0);
    // The ten connections of the pool, and the connection that polls the ledger.
    section.check("Postgres sees no more connections than the instance may have", after.connections <= 11.0);
    section.check("no change is taken for one that raised no tag", after.unnamed == 0.0);
    section.check("file descriptors are given back", after.files <= before.files + 16);
    if let Some(instance) = Arc::into_inner(instance) {
        instance.stop().await;
    }
    section
}

/// Plays this number of faults under load, and then waits without load.
async fn spell(environment: &mut Environment, instance: &Instance, faults: u64) -> Vec<Asked> {
    let (workload, base) = (environment.workload.clone(), instance.url(""));
    // These connections end with the client.
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
    let lasting = (FAULT + PAUSE) * faults as u32;
    let load =
        tokio::spawn(
            async move { by_the_clock(Instant::now(), RATE, lasting, || workload.request(&http, &base)).await },
        );
    for number in 1..=faults {
        eprintln!("  fault {number} of {faults}");
        fault(environment).await;
        tokio::time::sleep(PAUSE).await;
    }
    let asked = load.await.expect("the load ends");
    tokio::time::sleep(CALM).await;
    asked
}

async fn fault(environment: &mut Environment) {
    let last = || tokio::time::sleep(FAULT);
    match fastrand::u8(..6) {
        0 => {
            environment.redis.signal("STOP");
            last().await;
            environment.redis.signal("CONT");
        }
        1 => {
            environment.redis.kill().await;
            last().await;
            environment.redis.launch().await;
        }
        2 => {
            environment.postgres.signal("STOP");
            last().await;
            environment.postgres.signal("CONT");
        }
        3 => {
            environment.postgres.stop(true).await;
            last().await;
            environment.postgres.launch().await;
        }
        4 => {
            environment.to_postgres.set(Fault::Refuse);
            last().await;
            environment.to_postgres.restore();
        }
        _ => {
            environment.to_postgres.set(Fault::Delay(Duration::from_millis(40)));
            last().await;
            environment.to_postgres.restore();
        }
    }
}
