//! The fixture of the service's tests: instances over one database and one Redis, with a proxy in
//! front of Postgres.

use invoices::{
    cache::{Cache, CacheConfig, ConnectionPool},
    database,
    domain::invoices::service::CachedInvoiceService,
};
use sqlx::{PgPool, Postgres, pool::PoolConnection};

use super::{Proxy, RedisServer, eventually, redis_server::fresh_namespace, settings};

/// The environment of one test.
pub struct Fixture {
    /// A pool of the test's database that bypasses the service. A write through it counts as a
    /// write of another program.
    pub pool: PgPool,
    /// The proxy between the instances and Postgres.
    pub database: Proxy,
    redis_url: String,
    namespace: String,
    started: Vec<(Cache, ConnectionPool)>,
    /// A connection that stays open until the instances end. `#[sqlx::test]` waits for the pool's
    /// connections before it drops the database.
    held: Option<PoolConnection<Postgres>>,
}

impl Fixture {
    /// Uses the Redis that all tests share, in a namespace of its own.
    pub async fn new(pool: PgPool) -> Self {
        Self::with_redis(pool, &RedisServer::shared().url()).await
    }

    /// Uses a Redis server that belongs to the test.
    pub async fn with_redis(pool: PgPool, redis_url: &str) -> Self {
        let options = pool.connect_options();
        let database = Proxy::before(format!("{}:{}", options.get_host(), options.get_port())).await;
        let held = Some(pool.acquire().await.expect("a connection of the test's pool"));
        let (redis_url, namespace) = (redis_url.to_owned(), fresh_namespace());
        Self { pool, database, redis_url, namespace, started: Vec::new(), held }
    }

    /// Starts one more instance and waits until it may use its tiers.
    pub async fn instance(&mut self) -> CachedInvoiceService {
        self.instance_with(|_| {}).await
    }

    /// Starts one more instance with other settings.
    pub async fn instance_with(&mut self, change: impl FnOnce(&mut CacheConfig)) -> CachedInvoiceService {
        let options = self.pool.connect_options().as_ref().clone();
        let db = database::pool(options.host("127.0.0.1").port(self.database.address().port()));
        let mut config = settings::config(Some(&self.redis_url), &self.namespace);
        change(&mut config);
        let cache = Cache::start(config, db.clone());
        eventually("the ledger is followed", || async { cache.is_current().then_some(()) }).await;
        self.started.push((cache.clone(), db.clone()));
        CachedInvoiceService::new(cache, db)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Instances end faster when they can reach the database.
        self.database.restore();
        let (started, held) = (std::mem::take(&mut self.started), self.held.take());
        tokio::spawn(async move {
            for (cache, db) in started {
                cache.shutdown().await;
                db.inner().close().await;
            }
            drop(held);
        });
    }
}
