//! The builder of a test's instances: their number, their Redis and their settings.

use std::{sync::Arc, time::Duration};

use aside::config::{Config, RedisConfig, RedisMode};
use sqlx::{ConnectOptions, PgPool, postgres::PgConnectOptions};
use tokio::sync::Semaphore;

use super::{
    Instance, Proxy, RedisServer, TestApp,
    app::Held,
    database::{self, SERVICE_ROLE},
    environment::variable,
    pgbouncer::PgBouncer,
    redis_nodes::{Kind, RedisNodes},
    redis_server::fresh_namespace,
    settings,
};

/// The limit of concurrent instances in this process. Each uses about five connections, and
/// Postgres allows a hundred by default.
static INSTANCES: Semaphore = Semaphore::const_new(12);

/// The L2 of the instances.
pub enum Redis {
    /// No L2, so L1 is the only tier.
    None,
    /// The server that these tests share, in a namespace of this test.
    Shared,
    /// A server that belongs to the test, so that the test may kill and freeze it.
    Server(String),
    /// A server behind a proxy.
    Behind(Arc<Proxy>),
    /// The servers of a Sentinel deployment or of a Cluster.
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

/// A change of the settings of every instance.
type Change = Box<dyn Fn(&mut Config) + Send>;

/// The description of the instances to build.
pub struct TestAppBuilder {
    pool: PgPool,
    instances: u32,
    redis: Redis,
    settings: Vec<Change>,
    pooler: bool,
    service_role: bool,
}

impl TestAppBuilder {
    /// Describes one instance with the shared Redis and the settings of `settings.rs`.
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            instances: 1,
            redis: Redis::Shared,
            settings: Vec::new(),
            pooler: variable("TEST_POOLER").is_some(),
            service_role: variable("TEST_ROLE").is_some(),
        }
    }

    /// Sets the number of instances. They share the database and Redis.
    pub fn instances(mut self, count: u32) -> Self {
        self.instances = count;
        self
    }

    /// Sets the L2 of the instances.
    pub fn redis(mut self, redis: impl Into<Redis>) -> Self {
        self.redis = redis.into();
        self
    }

    /// Puts a PgBouncer in transaction mode between the instances and Postgres. With TEST_POOLER,
    /// every test has one (`make pgbouncer`).
    pub fn behind_pgbouncer(mut self) -> Self {
        self.pooler = true;
        self
    }

    /// Lets the instances connect as the role of the service, which owns nothing. With TEST_ROLE,
    /// those of every test do whose database has the schema already.
    pub fn with_service_role(mut self) -> Self {
        self.service_role = true;
        self
    }

    /// Sets the bytes of L1 in each instance. 0 disables L1.
    pub fn l1_bytes(self, bytes: u64) -> Self {
        self.config(move |config| config.cache_l1_bytes = bytes)
    }

    /// Sets D. An instance stops using its tiers when its last answered poll is older than D.
    pub fn max_staleness(self, max_staleness: Duration) -> Self {
        self.config(move |config| config.cache_max_staleness = max_staleness)
    }

    /// Sets the deadline of an L2 call. If L2 hangs, each call waits for this time.
    pub fn l2_deadline(self, deadline: Duration) -> Self {
        self.config(move |config| config.cache_l2_deadline = deadline)
    }

    /// Applies any other change of the settings.
    pub fn config(mut self, change: impl Fn(&mut Config) + Send + 'static) -> Self {
        self.settings.push(Box::new(change));
        self
    }

    /// Starts all instances and waits until they are ready.
    pub async fn build(self) -> TestApp {
        let permit = INSTANCES.acquire_many(self.instances).await.expect("never closed");
        let options = self.pool.connect_options();
        let proxy = Arc::new(Proxy::before(format!("{}:{}", options.get_host(), options.get_port())).await);
        let options = if self.service_role && database::is_migrated(&self.pool).await {
            let password = database::create_service_role(&self.pool).await;
            PgConnectOptions::clone(&options).username(SERVICE_ROLE).password(password)
        } else {
            PgConnectOptions::clone(&options)
        };
        let database_url = settings::database_url(&options, proxy.address());
        let namespace = fresh_namespace();
        let redis = match &self.redis {
            Redis::None => None,
            Redis::Shared => Some(RedisConfig::standalone(RedisServer::shared().url())),
            Redis::Server(url) => Some(RedisConfig::standalone(url.clone())),
            Redis::Behind(proxy) => Some(RedisConfig::standalone(format!("redis://{}/", proxy.address()))),
            Redis::Nodes(config) => Some(config.clone()),
        };
        let mut config = settings::config(database_url, redis, namespace.clone());
        let pooler = if self.pooler { Some(behind_pooler(&mut config).await) } else { None };
        self.settings.iter().for_each(|change| change(&mut config));
        let connection = self.pool.acquire().await.expect("a connection of the test's pool");
        let held =
            Arc::new(Held { _connection: connection, _permit: permit, _database: proxy.clone(), _pooler: pooler });
        let mut instances = Vec::new();
        for _ in 0..self.instances {
            instances.push(Instance::start(config.clone(), held.clone()).await);
        }
        TestApp { pool: self.pool, database: proxy, namespace, config, instances, held }
    }
}

/// Starts a PgBouncer before the database of these settings, and lets the instances use it.
async fn behind_pooler(config: &mut Config) -> PgBouncer {
    let direct: PgConnectOptions = config.database_url.parse().expect("the URL of the test's database");
    let url = reqwest::Url::parse(&config.database_url).expect("the URL of the test's database");
    // Fewer sessions than connections, so that clients take turns in them.
    let pooler = PgBouncer::before(&direct, url.password(), 2).await;
    let through = pooler.options(&direct).to_url_lossy().to_string();
    config.database_direct_url = Some(std::mem::replace(&mut config.database_url, through));
    pooler
}
