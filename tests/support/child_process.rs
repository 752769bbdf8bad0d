//! A process of the built program that serves the same database and the same Redis as a
//! [`TestApp`]. Its connections pass proxies that can stop at any message. It runs until it is
//! killed.

use std::{
    cell::RefCell,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
};

use aside::config::{L2Config, RedisConfig};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{
    Client, RedisServer, TestApp, eventually,
    process::{Process, free_port},
    settings,
    wire::{Speech, Wire},
};

/// A running `aside serve`. Dropping it kills the process.
pub struct ChildProcess {
    client: Client,
    /// The proxied connections of the process. Those of the management listener are not among them.
    pub wire: Wire,
    process: Process,
}

impl ChildProcess {
    /// Starts the program with the settings of the app's instances. Returns when the process is
    /// ready and may use its tiers.
    pub async fn begin(app: &TestApp) -> Self {
        Self::told(app, &[]).await
    }

    /// Like [`ChildProcess::begin`], with traces that go to a collector after a short delay.
    pub async fn traced(app: &TestApp, collector: &str) -> Self {
        let soon = ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned());
        Self::told(app, &[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.to_owned()), soon]).await
    }

    async fn told(app: &TestApp, more: &[(&'static str, String)]) -> Self {
        for _ in 0..5 {
            let Self { client, wire, process } = Self::launch(app, more).await;
            let process = RefCell::new(process);
            let came_up = eventually("the process is ready and follows the ledger, or has ended", || async {
                let ended = process.borrow_mut().has_ended();
                if ended { Some(false) } else { client.is_current().await.map(|()| true) }
            });
            if came_up.await {
                return Self { client, wire, process: process.into_inner() };
            }
        }
        panic!("`aside serve` did not come up on free ports in five tries: {}", log().display());
    }

    async fn launch(app: &TestApp, more: &[(&'static str, String)]) -> Self {
        let [public, management] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let wire = Wire::new();
        let options = PgConnectOptions::clone(&app.pool.connect_options()).ssl_mode(PgSslMode::Disable);
        let postgres = format!("{}:{}", options.get_host(), options.get_port());
        let postgres = wire.to(postgres, Speech::Postgres, "pg_current_snapshot").await;
        let redis = wire.to(RedisServer::shared().address().to_string(), Speech::Redis, "SUBSCRIBE").await;
        let near = wire.to(public.to_string(), Speech::Http, "").await;
        let mut config = app.config.clone();
        config.database_url = settings::database_url(&options, postgres);
        config.l2 = Some(L2Config::Redis(RedisConfig::standalone(format!("redis://{redis}/"))));
        (config.bind_addr, config.management_addr) = (public, management);
        let program = Path::new(env!("CARGO_BIN_EXE_aside"));
        let environment: Vec<_> = settings::environment(&config).into_iter().chain(more.iter().cloned()).collect();
        let process = Process::start(program, &["serve".into()], &environment, &log(), None);
        Self { client: Client::new(near, management, config.management_token), wire, process }
    }

    /// Kills the process, as a power cut would. Returns when Postgres and Redis have handled all
    /// messages that had reached them.
    pub async fn kill_9(self) {
        self.process.kill_9().await;
        self.wire.end().await;
    }
}

impl Deref for ChildProcess {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

fn log() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("lives.log")
}
