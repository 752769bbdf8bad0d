//! Says what a test needs and builds it: how many instances, which Redis, which settings.

use std::{sync::Arc, time::Duration};

use aside::config::{Config, RedisConfig, RedisMode};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use super::{
    Instance, Proxy, RedisServer, TestApp,
    app::Held,
    redis_nodes::{Kind, RedisNodes},
    redis_server::fresh_namespace,
    settings,
};

/// How many instances may live at once in the process: about five connections each, under Postgres' default of a hundred.
static INSTANCES: Semaphore = Semaphore::const_new(12);

/// Which L2 the instances use.
pub enum Redis {
    /// None: L1 only.
    None,
    /// The server that all such tests share, in a namespace of this test.
    Shared,
    /// A server of the test's own, so that it may be killed and frozen.
    Server(String),
    /// A server behind a proxy.
    Behind(Arc<Proxy>),
    /// Several servers that know each other.
    Nodes(RedisConfig),
}

impl From<&RedisServer> for Redis {
    fn from(server: &RedisServer) -> Self {
        Self::Server(server.url())
    }
}

impl From<&RedisNodes> for Redis {
    fn from(nodes: &RedisNodes) -> Self {
        let mode = match nodes.kind {
            Kind::Sentinel => RedisMode::Sentinel,
            Kind::Cluster => RedisMode::Cluster,
        };
        Self::Nodes(RedisConfig { mode, urls: nodes.urls(), ..RedisConfig::standalone(String::new()) })
    }
}

/// A change of the settings that every instance of the test starts with.
type Change = Box<dyn Fn(&mut Config) + Send>;

/// What to build.
pub struct TestAppBuilder {
    pool: PgPool,
    instances: u32,
    redis: Redis,
    settings: Vec<Change>,
}

impl TestAppBuilder {
    /// One instance, the shared Redis, the settings of `settings.rs`.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, instances: 1, redis: Redis::Shared, settings: Vec::new() }
    }

    /// How many instances serve the same database and Redis.
    pub fn instances(mut self, count: u32) -> Self {
        self.instances = count;
        self
    }

    /// Which L2 they use.
    pub fn redis(mut self, redis: impl Into<Redis>) -> Self {
        self.redis = redis.into();
        self
    }

    /// Bytes of L1 in each instance; 0 switches it off.
    pub fn l1_bytes(self, bytes: u64) -> Self {
        self.config(move |config| config.cache_l1_bytes = bytes)
    }

    /// D: how long an instance trusts its tiers without news from Postgres.
    pub fn max_staleness(self, max_staleness: Duration) -> Self {
        self.config(move |config| config.cache_max_staleness = max_staleness)
    }

    /// How long a call of L2 may take: where L2 hangs, the time that tests with patience spend on waiting for it.
    pub fn l2_deadline(self, deadline: Duration) -> Self {
        self.config(move |config| config.cache_l2_deadline = deadline)
    }

    /// Any other setting.
    pub fn config(mut self, change: impl Fn(&mut Config) + Send + 'static) -> Self {
        self.settings.push(Box::new(change));
        self
    }

    /// Starts everything.
    pub async fn build(self) -> TestApp {
        let permit = INSTANCES.acquire_many(self.instances).await.expect("never closed");
        let options = self.pool.connect_options();
        let database = Arc::new(Proxy::before(format!("{}:{}", options.get_host(), options.get_port())).await);
        let database_url = settings::database_url(&options, database.address());
        let namespace = fresh_namespace();
        let redis = match &self.redis {
            Redis::None => None,
            Redis::Shared => Some(RedisConfig::standalone(RedisServer::shared().url())),
            Redis::Server(url) => Some(RedisConfig::standalone(url.clone())),
            Redis::Behind(proxy) => Some(RedisConfig::standalone(format!("redis://{}/", proxy.address()))),
            Redis::Nodes(config) => Some(config.clone()),
        };
        let mut config = settings::config(database_url, redis, namespace.clone());
        self.settings.iter().for_each(|change| change(&mut config));
        let connection = self.pool.acquire().await.expect("a connection of the test's pool");
        let held = Arc::new(Held { _connection: connection, _permit: permit, _database: database.clone() });
        let mut instances = Vec::new();
        for _ in 0..self.instances {
            instances.push(Instance::start(config.clone(), held.clone()).await);
        }
        TestApp { pool: self.pool, database, namespace, config, instances, held }
    }
}
