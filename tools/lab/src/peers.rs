//! The programs of `benches/peers` beside the service: their files, their data, and the core of
//! each.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    catalogue::Catalogue,
    environment::{Environment, program},
    pin,
};

pub struct Peers {
    pub aside: PathBuf,
    pub catalogue: Catalogue,
    pub database_url: String,
    pub redis_url: String,
}

impl Peers {
    /// Gives the compared servers a core for themselves from now on. This run, Postgres and Redis
    /// share the other core.
    pub async fn prepare(environment: &mut Environment) -> Self {
        pin::leave_the_servers_core();
        // A process that starts now stays on the core of this process.
        environment.postgres.restart(false).await;
        environment.redis.restart(false).await;
        Self {
            aside: program(),
            catalogue: Catalogue::read(&environment.db).await.expect("the products"),
            database_url: environment.postgres.url(environment.postgres.port),
            redis_url: format!("redis://127.0.0.1:{}/1", environment.redis.port),
        }
    }
}

/// Arguments of the load client for a number of clients and a time.
pub fn client(clients: usize, lasting_ms: u64) -> Vec<String> {
    ["--clients", &clients.to_string(), "--seconds", &seconds(lasting_ms)].map(str::to_owned).to_vec()
}

/// Arguments of the load client for a rate of requests and a time.
pub fn clock(rate: f64, lasting_ms: u64) -> Vec<String> {
    ["--rate", &rate.to_string(), "--seconds", &seconds(lasting_ms)].map(str::to_owned).to_vec()
}

fn seconds(milliseconds: u64) -> String {
    (milliseconds as f64 / 1e3).to_string()
}

/// Creates the schema and imports the sample.
pub fn seed(database_url: &str) {
    run(&program(), "seed", &[], &[("DATABASE_URL", database_url)]);
}

/// A token of a tenant.
pub fn token(aside: &Path, database_url: &str, secret: &str, tenant: &str) -> String {
    run(aside, "token", &["--tenant", tenant], &[("DATABASE_URL", database_url), ("JWT_SECRET", secret)])
}

fn run(program: &Path, command: &str, args: &[&str], settings: &[(&str, &str)]) -> String {
    let output = Command::new(program).arg(command).args(args).envs(settings.iter().copied()).output();
    let output = output.expect("the service's program runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
