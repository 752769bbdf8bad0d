//! Instances of the service over one database and one Redis, and their clients, as the tests of all
//! types use them.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use aside_cache::{Cache, CacheConfig, Cacheable, Cached, ConnectionPool, Error, Keyring, RedisL2, Tenant};
use aside_testkit::{
    RedisServer, TestDatabase,
    dependencies::{Answer, DependencyCheck},
    eventually,
    redis_server::fresh_namespace,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use invoices::{audit::AccessLog, http::router, session::Session};
use serde_json::Value;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tower::ServiceExt;

/// These keys seal the entries in Redis. They are not secret.
const KEYS: &str = "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The environment of one test.
pub struct Fixture {
    /// The database behind a proxy.
    pub database: TestDatabase,
    redis: String,
    namespace: String,
    lines: Sender<String>,
    log: Mutex<Receiver<String>>,
}

impl Fixture {
    pub async fn new(pool: PgPool, redis: &RedisServer) -> Self {
        invoices::migrate(&pool).await.expect("the migrations run");
        let (lines, log) = channel();
        let (database, log) = (TestDatabase::new(pool).await, Mutex::new(log));
        Self { database, redis: redis.url(), namespace: fresh_namespace(), lines, log }
    }

    /// Starts a fixture with one instance, over the Redis that all tests share.
    pub async fn start(pool: PgPool) -> (Self, Client) {
        let mut fixture = Self::new(pool, RedisServer::shared()).await;
        let client = fixture.client().await;
        (fixture, client)
    }

    /// The settings of an instance. Its limits are long, so that a busy machine causes no extra loads.
    fn config(&self) -> CacheConfig {
        CacheConfig {
            namespace: self.namespace.clone(),
            keys: Some(Keyring::parse(KEYS).expect("keys")),
            l2: Some(Arc::new(RedisL2::standalone(&self.redis).expect("the URL of Redis"))),
            l2_deadline: Duration::from_secs(2),
            max_staleness: Duration::from_secs(60),
            policies: invoices::policies(),
            recorder: Some(Arc::new(AccessLog(self.lines.clone()))),
            ..CacheConfig::default()
        }
    }

    /// A check of reads by tenant `demo`, after SQL that inserts more data.
    pub async fn check(&self, data: &'static str) -> Check {
        sqlx::raw_sql(data).execute(&self.database.pool).await.expect("the data");
        let mut check = DependencyCheck::new(&self.database.pool);
        check.declared_in("migrations");
        let tenant = Tenant::parse("demo").expect("a tenant");
        let session = Session { cache: Cache::start(self.config(), check.pool()), tenant };
        Check { check, session }
    }

    /// Starts one more instance.
    pub async fn client(&mut self) -> Client {
        let pool = PgPoolOptions::new().max_connections(5);
        let db = ConnectionPool::new("Postgres", pool, self.database.options());
        let cache = Cache::start(self.config(), db);
        eventually("the ledger is followed", || async { cache.is_current().then_some(()) }).await;
        let router = router(&cache);
        self.database.at_end(async move {
            cache.shutdown().await;
            cache.close_pools().await;
        });
        Client { router, tenant: "demo" }
    }

    /// The records of accesses since the last call.
    pub fn accesses(&self) -> Vec<String> {
        self.log.lock().expect("nobody panicked").try_iter().collect()
    }
}

/// A dependency check of the reads of a session.
pub struct Check {
    check: DependencyCheck,
    session: Session,
}

impl Check {
    /// Adds a read, which must use no tier (`CacheMode::NoStore`).
    pub fn read<T: Cacheable, Fut>(&mut self, name: &'static str, read: impl Fn(Session) -> Fut + 'static)
    where
        Fut: Future<Output = Result<Cached<T>, Error>> + 'static,
    {
        let session = self.session.clone();
        self.check.load(name, move || {
            let reading = read(session.clone());
            async move {
                match reading.await {
                    Ok(read) => {
                        Answer::new(&read.entry.body, read.entry.tag_versions.iter().map(|version| &version.tag))
                    }
                    Err(error) => Answer::failed(error),
                }
            }
        });
    }
}

impl Deref for Check {
    type Target = DependencyCheck;

    fn deref(&self) -> &DependencyCheck {
        &self.check
    }
}

impl DerefMut for Check {
    fn deref_mut(&mut self) -> &mut DependencyCheck {
        &mut self.check
    }
}

/// A client of one instance, for a tenant.
#[derive(Clone)]
pub struct Client {
    router: Router,
    tenant: &'static str,
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub etag: String,
    pub body: Value,
}

impl Client {
    /// A client of the same instance for another tenant.
    pub fn of_tenant(&self, tenant: &'static str) -> Self {
        Self { tenant, ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, ("accept", "*/*"), Value::Null).await
    }

    /// Sends a request as the user `alice`, with one more header.
    pub async fn send(&self, method: &str, path: &str, header: (&str, &str), body: Value) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in [("x-tenant", self.tenant), ("x-subject", "alice"), header] {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body.to_string())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("a response");
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        Reply { status, etag, body: serde_json::from_slice(&body).unwrap_or_default() }
    }
}
