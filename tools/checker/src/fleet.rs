//! Three instances of the service as processes, each with its own proxy to Postgres and its own
//! proxy to Redis.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use aside_testkit::{
    postgres_server::Postgres,
    process::{Process, free_port},
    proxy::{Fault, Proxy},
    within,
};
use tokio::sync::Mutex;

use crate::{check::history::Micros, pace::millis, store::Store};

/// The number of instances.
pub const INSTANCES: usize = 3;
/// The sizes of L1. The first holds everything, and the second evicts all the time. With the third,
/// every cached answer comes from L2.
const L1_BYTES: [u64; INSTANCES] = [64 << 20, 48 << 10, 0];
/// The first segment of all keys in Redis.
pub const NAMESPACE: &str = "consistency";

pub struct Instance {
    pub port: u16,
    pub management: u16,
    pub to_postgres: Proxy,
    pub to_redis: Proxy,
    l1_bytes: u64,
    process: Mutex<Option<Process>>,
    process_runs: AtomicU32,
    /// Until when clients avoid the instance, after a request without an answer.
    avoided_until: AtomicU64,
    database_url: String,
    redis: Vec<(&'static str, String)>,
    log: PathBuf,
    program: PathBuf,
}

/// Prepares the instances. Starts none of them.
pub async fn prepare(program: &Path, postgres: &Postgres, redis: &Store, logs: &Path) -> Vec<Instance> {
    let mut fleet = Vec::new();
    for (at, l1_bytes) in L1_BYTES.into_iter().enumerate() {
        let to_postgres = Proxy::before(format!("127.0.0.1:{}", postgres.port)).await;
        // With several Redis servers, no connection uses this proxy.
        let port = if let Store::One(redis) = redis { redis.port } else { free_port() };
        let to_redis = Proxy::before(format!("127.0.0.1:{port}")).await;
        fleet.push(Instance {
            port: free_port(),
            management: free_port(),
            database_url: postgres.url(to_postgres.address().port()),
            to_postgres,
            redis: redis.settings(),
            to_redis,
            l1_bytes,
            process: Mutex::default(),
            process_runs: AtomicU32::new(0),
            avoided_until: AtomicU64::new(0),
            log: logs.join(format!("instance-{at}.log")),
            program: program.to_owned(),
        });
    }
    fleet
}

impl Instance {
    /// The settings of this instance's process.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("DATABASE_URL", self.database_url.clone()),
            ("REDIS_URL", format!("redis://{}/", self.to_redis.address())),
            ("BIND_ADDR", format!("127.0.0.1:{}", self.port)),
            ("MANAGEMENT_ADDR", format!("127.0.0.1:{}", self.management)),
            ("CACHE_NAMESPACE", NAMESPACE.to_owned()),
            ("CACHE_L1_BYTES", self.l1_bytes.to_string()),
            ("CACHE_WARM_TOP", "60".to_owned()),
            ("TOKIO_WORKER_THREADS", "2".to_owned()),
            ("RUST_LOG", "warn".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
        ];
        settings.retain(|(name, _)| self.redis.iter().all(|(other, _)| other != name));
        settings.extend(self.redis.clone());
        settings
    }

    /// Starts a process unless one runs. Does not wait until it is ready.
    pub async fn start(&self) {
        let mut process = self.process.lock().await;
        if process.as_mut().is_none_or(Process::has_ended) {
            self.process_runs.fetch_add(1, Ordering::AcqRel);
            let args = ["serve".to_owned()];
            *process = Some(Process::start(&self.program, &args, &self.settings(), &self.log, None));
        }
    }

    /// Ends the process, either by a kill or by a graceful shutdown.
    pub async fn stop(&self, orderly: bool) {
        let Some(process) = self.process.lock().await.take() else { return };
        process.signal(if orderly { "TERM" } else { "KILL" });
        process.ended().await;
    }

    pub async fn signal(&self, name: &str) {
        if let Some(process) = &*self.process.lock().await {
            process.signal(name);
        }
    }

    pub fn process_run(&self) -> u32 {
        self.process_runs.load(Ordering::Acquire)
    }

    pub fn avoid_until(&self, moment: Micros) {
        self.avoided_until.store(moment, Ordering::Release);
    }

    pub fn avoided(&self, now: Micros) -> bool {
        self.avoided_until.load(Ordering::Acquire) > now
    }

    /// Removes the faults of its connections and makes sure that it runs.
    pub async fn heal(&self) {
        self.to_postgres.set(Fault::None);
        self.to_redis.set(Fault::None);
        self.signal("CONT").await;
        self.start().await;
    }

    /// Waits until the instance is ready. Restarts it if it exits because Postgres failed during
    /// its start. Any supervisor would do the same.
    pub async fn ready(&self, http: &reqwest::Client) {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        let asked = || async {
            self.start().await;
            let answer = http.get(&url).timeout(millis(500)).send().await.ok()?;
            answer.status().is_success().then_some(())
        };
        within(Duration::from_secs(60), "the instance is ready", asked).await;
    }
}
