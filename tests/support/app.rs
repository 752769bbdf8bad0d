//! The service under test: real instances on free ports, over one database and one Redis.

use std::{net::SocketAddr, ops::Deref, sync::Arc};

use aside::{app::App, config::Config};
use deadpool_redis::redis;
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::{sync::SemaphorePermit, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Proxy, builder::TestAppBuilder, eventually, pgbouncer::PgBouncer, redis_keys::RedisKeys, settings};

/// Resources that must outlive the last instance. `#[sqlx::test]` waits for the pool's connections
/// before it drops the database.
pub(super) struct Held {
    pub(super) _connection: PoolConnection<Postgres>,
    pub(super) _permit: SemaphorePermit<'static>,
    pub(super) _database: Arc<Proxy>,
    pub(super) _pooler: Option<PgBouncer>,
}

/// A client of one instance, in this process or in another. Its verbs are in `verbs.rs`.
pub struct Client {
    /// The address of the public listener.
    pub address: SocketAddr,
    /// The address of the management listener.
    pub management: SocketAddr,
    pub(super) http: reqwest::Client,
    pub(super) management_token: Option<String>,
}

impl Client {
    /// Creates a client without a request.
    pub fn new(address: SocketAddr, management: SocketAddr, management_token: Option<String>) -> Self {
        // A proxy of the developer's machine must not intercept the requests.
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Self { address, management, http, management_token }
    }
}

/// One running instance in this process, with a client that calls it. Dropping it lets it drain and
/// end.
pub struct Instance {
    client: Client,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Instance {
    /// Builds an instance, serves it and waits until it is ready.
    pub(super) async fn start(config: Config, held: Arc<Held>) -> Self {
        let management_token = config.management_token.clone();
        let app = App::build(config).await.unwrap_or_else(|error| panic!("the instance does not start: {error}"));
        let (address, management) = (app.addr(), app.management_addr());
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let serving = tokio::spawn(async move {
            let ended = app.run_until(until).await;
            drop(held);
            ended.unwrap_or_else(|error| panic!("the instance fails: {error}"));
        });
        let client = Client::new(address, management, management_token);
        eventually("the instance is ready and follows the ledger", || client.is_current()).await;
        Self { client, shutdown, serving }
    }

    /// Makes the instance drain and end, as SIGTERM does. The function does not wait for the end.
    pub fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Returns whether the instance has ended.
    pub fn has_ended(&self) -> bool {
        self.serving.is_finished()
    }

    /// Waits for the end of the instance. A panic in the instance fails the test.
    pub async fn ended(&mut self) {
        (&mut self.serving).await.expect("the instance ends well");
    }
}

impl Deref for Instance {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// All instances of a test. Verbs called on it go to the first instance.
pub struct TestApp {
    /// A pool of the test's database that bypasses the service.
    pub pool: PgPool,
    /// The proxy between the instances and Postgres.
    pub database: Arc<Proxy>,
    pub namespace: String,
    /// The settings of the instances.
    pub config: Config,
    pub(super) instances: Vec<Instance>,
    pub(super) held: Arc<Held>,
}

impl TestApp {
    /// Returns a builder for the instances. `pool` is the pool that `#[sqlx::test]` passes to the
    /// test.
    pub fn builder(pool: PgPool) -> TestAppBuilder {
        TestAppBuilder::new(pool)
    }

    /// Starts one instance with the shared Redis.
    pub async fn start(pool: PgPool) -> Self {
        Self::builder(pool).build().await
    }

    /// Returns one of the instances, counted from 0.
    pub fn instance(&self, index: usize) -> &Instance {
        &self.instances[index]
    }

    /// Returns one of the instances, so that the test can end it.
    pub fn instance_mut(&mut self, index: usize) -> &mut Instance {
        &mut self.instances[index]
    }

    /// Starts one more instance, as a deployment does. The test owns it.
    pub async fn another(&self) -> Instance {
        self.another_with(|_| {}).await
    }

    /// Starts one more instance with other settings.
    pub async fn another_with(&self, change: impl FnOnce(&mut Config)) -> Instance {
        let mut config = self.config.clone();
        change(&mut config);
        Instance::start(config, self.held.clone()).await
    }

    /// Makes Postgres unreachable for all instances. The test's own pool still works.
    pub fn cut_database(&self) {
        self.database.cut();
    }

    /// Makes Postgres reachable again.
    pub fn restore_database(&self) {
        self.database.restore();
    }

    /// Returns access to the keys that the instances have written to Redis.
    pub async fn redis_keys(&self) -> RedisKeys {
        let redis = settings::redis(&self.config).expect("a test with Redis");
        let client = redis::Client::open(redis.urls[0].as_str()).expect("the URL of Redis");
        let connection = client.get_multiplexed_async_connection().await.expect("a connection to Redis");
        RedisKeys::new(&self.namespace, connection)
    }
}

impl Deref for TestApp {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instances[0]
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // Instances drain faster when they can reach the database.
        self.database.restore();
    }
}
