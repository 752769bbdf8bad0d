//! A tenant with many clients beside one with two, where Postgres is the bottleneck. Measures the
//! delay of the second one's answers.

use sqlx::PgPool;

use crate::{
    goals::{Goal, ratios},
    pace::{blocking, millis, pause},
    peers::{Peers, client, token},
    server::{Program, Sample, Server, begin_load},
};

const SECRET: &str = "0123456789abcdef-of-this-run-alone";
const LASTING_MS: u64 = 3_000;
/// The time between the start of the many clients and that of the other tenant's requests.
const HEAD_START_MS: u64 = 500;

/// A tenant of the run: its token and the paths of its orders.
struct Tenant {
    token: String,
    paths: Vec<String>,
}

impl Tenant {
    async fn find(peers: &Peers, db: &PgPool, name: &str) -> Self {
        let sql = "select '/orders/' || id from orders_stored where tenant = $1 order by id";
        let paths = sqlx::query_scalar(sql).bind(name).fetch_all(db).await.expect("the tenant's orders");
        Self { token: token(&peers.aside, &peers.database_url, SECRET, name), paths }
    }

    fn args(&self, clients: usize, lasting_ms: u64) -> Vec<String> {
        let mut args = client(clients, lasting_ms);
        args.extend(["--header".to_owned(), format!("Authorization: Bearer {}", self.token)]);
        args
    }

    fn run(&self, server: &Server, clients: usize) -> Sample {
        blocking(|| begin_load(server.address(), &self.args(clients, LASTING_MS), &self.paths).end())
    }
}

pub async fn measure(peers: &Peers, slow_url: &str, rounds: usize) -> Vec<Goal> {
    let db = PgPool::connect(slow_url).await.expect("a connection");
    let (many, few) = (Tenant::find(peers, &db, "acme").await, Tenant::find(peers, &db, "demo").await);
    db.close().await;
    let (mut alone, mut beside, mut lost, mut all) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for _ in 0..rounds {
        let program = Program::aside("Aside", &peers.aside, slow_url, "").with("CACHE_L1_BYTES", "0");
        let program = program.with("JWT_SECRET", SECRET).with("TENANT_REQUESTS_PER_SECOND", "0");
        let server = blocking(|| program.start());
        let quiet = few.run(&server, 2);
        let running = begin_load(server.address(), &many.args(256, LASTING_MS + 2 * HEAD_START_MS), &many.paths);
        pause(millis(HEAD_START_MS)).await;
        let busy = few.run(&server, 2);
        let flood = blocking(|| running.end());
        eprintln!("  alone: {quiet:?}\n  beside: {busy:?}\n  the other: {flood:?}");
        alone.push(quiet.p99);
        beside.push(busy.p99);
        for sample in [&quiet, &busy] {
            lost += sample.refused + sample.failed;
            all += sample.refused + sample.failed + sample.answered;
        }
    }
    vec![
        Goal::at_most(
            "a tenant of 2 clients beside one of 256: 99 % against being alone",
            &ratios(&beside, &alone),
            3.0,
        ),
        Goal::none("the same: of the tenant of 2 clients refused or failed", lost, all),
    ]
}
