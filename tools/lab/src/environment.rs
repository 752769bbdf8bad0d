//! The environment of a run: its own Postgres and Redis, the seeded data, and the service as real
//! processes.

use std::{error::Error, fs, path::PathBuf, process::Command, time::Duration};

use aside_testkit::private_redis::Redis;
use aside_testkit::{
    metrics::Metrics,
    postgres_server::Postgres,
    process::{Process, free_port},
    proxy::Proxy,
    within,
};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::workload::Workload;

const START: Duration = Duration::from_secs(60);

pub struct Environment {
    pub postgres: Postgres,
    pub redis: Redis,
    /// The proxy between all instances and Postgres.
    pub to_postgres: Proxy,
    pub workload: Workload,
    /// A pool that bypasses the proxy.
    pub db: PgPool,
    pub http: reqwest::Client,
    pub folder: PathBuf,
}

/// A running instance, and its ports.
pub struct Instance {
    pub port: u16,
    pub management: u16,
    process: Process,
    http: reqwest::Client,
}

/// The L2 of an instance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    Redis,
    Nothing,
}

impl Environment {
    pub async fn build() -> Result<Self, Box<dyn Error>> {
        let folder = std::env::temp_dir().join(format!("aside-chaos-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (postgres, redis) = (Postgres::start(&folder).await, Redis::start(&folder).await);
        let seeded = Command::new(program()).arg("seed").env("DATABASE_URL", postgres.url(postgres.port)).output()?;
        if !seeded.status.success() {
            return Err(String::from_utf8_lossy(&seeded.stderr).into_owned().into());
        }
        let db = PgPoolOptions::new().max_connections(4).connect(&postgres.url(postgres.port)).await?;
        let workload = Workload::of(&db).await?;
        let to_postgres = Proxy::before(format!("127.0.0.1:{}", postgres.port)).await;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { postgres, redis, to_postgres, workload, db, http, folder })
    }

    /// Starts an instance and waits until it is ready. `settings` are added to those that every run
    /// needs.
    pub async fn instance(&self, name: &str, shared: Shared, settings: &[(&'static str, &str)]) -> Instance {
        self.instance_on((free_port(), free_port()), name, shared, settings).await
    }

    /// Starts an instance on these ports.
    pub async fn instance_on(
        &self,
        (port, management): (u16, u16),
        name: &str,
        shared: Shared,
        settings: &[(&'static str, &str)],
    ) -> Instance {
        let redis = match shared {
            Shared::Redis => format!("redis://127.0.0.1:{}/", self.redis.port),
            Shared::Nothing => String::new(),
        };
        let mut all = vec![
            ("DATABASE_URL", self.postgres.url(self.to_postgres.address().port())),
            ("REDIS_URL", redis),
            ("BIND_ADDR", format!("127.0.0.1:{port}")),
            ("MANAGEMENT_ADDR", format!("127.0.0.1:{management}")),
            ("CACHE_NAMESPACE", format!("chaos-{name}")),
            ("RUST_LOG", "warn".to_owned()),
        ];
        all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let log = self.folder.join(format!("{name}-{port}.log"));
        let process = Process::start(&program(), &["serve".to_owned()], &all, &log, None);
        let instance = Instance { port, management, process, http: self.http.clone() };
        within(START, "the instance is ready", || async { instance.is_ready().await.then_some(()) }).await;
        instance
    }

    /// Ends all servers and removes their files.
    pub async fn end(self) {
        self.db.close().await;
        drop((self.postgres, self.redis));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Instance {
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn is_ready(&self) -> bool {
        let answer = self.http.get(self.url("/readyz")).timeout(Duration::from_millis(500)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub async fn metrics(&self) -> Option<Metrics> {
        let url = format!("http://127.0.0.1:{}/metrics", self.management);
        let answer = self.http.get(url).timeout(Duration::from_secs(2)).send().await.ok()?;
        Some(Metrics::parse(&answer.text().await.ok()?))
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0
    }

    /// The number of open file descriptors, including sockets.
    pub fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.pid())).map_or(0, Iterator::count)
    }

    /// Shuts the instance down gracefully. Its log shows whether its exit status was 0.
    pub async fn stop(self) {
        self.process.signal("TERM");
        self.process.ended().await;
    }
}

/// The service's program. `ASIDE_PROGRAM` selects another build, and the default is the build of
/// this run.
pub fn program() -> PathBuf {
    let named = std::env::var_os("ASIDE_PROGRAM").filter(|file| !file.is_empty());
    named.map_or_else(|| aside_testkit::process::built("aside"), PathBuf::from)
}
