//! The servers of a run, and a separate database for each figure. So data left by one figure cannot
//! slow down the next.

use std::{sync::Arc, time::Duration};

use aside::{
    app::database,
    config::{Config, Settings},
};
use aside_cache::{Cache, ConnectionPool, L2, RedisL2};
use clap::Parser;
use deadpool_redis::redis;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions};

/// The service's own settings with their defaults.
#[derive(Parser)]
struct Service {
    #[command(flatten)]
    settings: Settings,
}

/// The environment of a run, and the length of its parts.
pub struct Environment {
    server: PgConnectOptions,
    redis_url: String,
    /// Whether the run only shows that everything works.
    pub short: bool,
}

/// A migrated database.
pub struct Database {
    /// Settings of an instance that serves it.
    pub config: Config,
    /// The pool of an instance.
    pub pool: ConnectionPool,
    /// A pool whose statements have no time limit.
    pub patient: PgPool,
    server: PgConnectOptions,
    name: String,
}

impl Environment {
    pub fn new(database_url: &str, redis_url: &str, short: bool) -> Self {
        let server = database_url.parse().expect("DATABASE_URL is the URL of a Postgres");
        Self { server, redis_url: redis_url.to_owned(), short }
    }

    /// One value for the long run, another for the short one.
    pub fn pick<T>(&self, long: T, short: T) -> T {
        if self.short { short } else { long }
    }

    pub fn time(&self, long: u64, short: u64) -> Duration {
        Duration::from_millis(self.pick(long, short))
    }

    /// Creates a database.
    pub async fn database(&self, name: &str) -> Database {
        let name = format!("costs_{name}");
        let drop = format!("drop database if exists {name} with (force)");
        execute(&self.server, &[drop, format!("create database {name}")]).await;
        let url = self.server.clone().database(&name).to_url_lossy().to_string();
        let arguments = ["costs", "--port", "0", "--management-addr", "127.0.0.1:0", "--cache-warm-top", "0"];
        let stores = ["--database-url", &url, "--redis-url", &self.redis_url, "--cache-namespace", &name];
        let service = Service::parse_from(arguments.into_iter().chain(stores));
        let (config, _) = service.settings.check().expect("the settings are right");
        database::migrate(&config).await.expect("the schema is made");
        let pool = database::serving_pool(&config).await.expect("a pool");
        let patient = database::patient_pool(&config).await.expect("a pool");
        Database { config, pool, patient, server: self.server.clone(), name }
    }

    /// The shared tier.
    pub fn l2(&self) -> Arc<dyn L2> {
        Arc::new(RedisL2::standalone(&self.redis_url).expect("the URL of Redis"))
    }

    pub async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.redis_url.as_str()).expect("the URL of Redis");
        client.get_multiplexed_async_connection().await.expect("a connection to Redis")
    }

    /// A description of the machine and the servers, one line each.
    pub async fn description(&self) -> Vec<String> {
        let mut postgres = PgConnection::connect_with(&self.server).await.expect("a connection to Postgres");
        let settings: (String, String, String, String) = sqlx::query_as(
            "select split_part(current_setting('server_version'), ' ', 1), current_setting('fsync'),
                    current_setting('synchronous_commit'), current_setting('full_page_writes')",
        )
        .fetch_one(&mut postgres)
        .await
        .expect("the settings of Postgres");
        let (version, fsync, commit, pages) = settings;
        assert!(
            [&fsync, &commit, &pages].iter().all(|on| *on == "on"),
            "commits must be durable to cost what they cost"
        );
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut self.redis().await).await.expect("INFO");
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let redis = match (field("valkey_version:"), field("redis_version:")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, version) => format!("Redis {}", version.unwrap_or("of unknown version")),
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        vec![
            format!(
                "Postgres {version} with its default durability (fsync, synchronous_commit and full_page_writes are on)"
            ),
            redis,
            format!("{cores} cores, shared by clients, instances, Postgres and Redis"),
            "the release profile of this repository".to_owned(),
        ]
    }
}

impl Database {
    /// Runs vacuum and checkpoint after a preparation, so that Postgres does not do so during the
    /// measurement.
    pub async fn quiesce(&self) {
        for statement in ["vacuum (analyze)", "checkpoint"] {
            sqlx::query(statement).execute(&self.patient).await.expect(statement);
        }
    }

    pub async fn drop(self) {
        self.pool.close().await;
        self.patient.close().await;
        execute(&self.server, &[format!("drop database {} with (force)", self.name)]).await;
    }
}

/// Returns when the cache may use its tiers.
pub async fn until_current(cache: &Cache) {
    while !cache.is_current() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn execute(server: &PgConnectOptions, statements: &[String]) {
    let mut connection = PgConnection::connect_with(server).await.expect("a connection to Postgres");
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement.clone()))
            .execute(&mut connection)
            .await
            .expect("a database is made or dropped");
    }
}
