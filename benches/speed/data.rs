//! The seeded products and their popularity, and the values that Redis must hold.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use aside::{
    app::database,
    config::{Config, Settings},
    seed,
};
use clap::Parser;
use deadpool_redis::redis;
use sqlx::{PgPool, postgres::PgPoolOptions};

/// The service's own settings with their defaults.
#[derive(Parser)]
struct Service {
    #[command(flatten)]
    settings: Settings,
}

/// The settings of an instance for this database.
pub fn service(database_url: &str) -> Config {
    let service = Service::parse_from(["bench", "--database-url", database_url]);
    service.settings.check().expect("the settings are right").0
}

pub struct Data {
    /// Ids, most viewed first.
    pub popular: Vec<i64>,
    views: Vec<f64>,
    /// How long loading them took.
    pub seeded: Duration,
    pub db: PgPool,
}

impl Data {
    /// Creates the schema and imports the data.
    pub async fn prepare(database_url: &str, full: Option<PathBuf>) -> Self {
        let config = service(database_url);
        database::migrate(&config).await.expect("the schema is made");
        let patient = database::patient_pool(&config).await.expect("a pool");
        let begun = Instant::now();
        seed::seed(&patient, full.map_or(seed::Source::Sample, seed::Source::Full), seed::Progress::for_terminal())
            .await
            .expect("the sample is loaded");
        let seeded = begun.elapsed();
        let db = PgPoolOptions::new().connect(database_url).await.expect("a pool");
        sqlx::query("vacuum (analyze)").execute(&db).await.expect("statistics");
        let sql = "select id, view_count from products order by view_count desc, id";
        let rows: Vec<(i64, i64)> = sqlx::query_as(sql).fetch_all(&db).await.expect("the products");
        let (popular, views) = rows.into_iter().map(|(id, views)| (id, views as f64 + 1.0)).unzip();
        Self { popular, views, seeded, db }
    }

    /// `count` of the `top` most viewed products by their popularity.
    pub fn sampled(&self, top: usize, count: usize) -> Vec<i64> {
        let sums: Vec<f64> = self.views[..top]
            .iter()
            .scan(0.0, |sum, views| {
                *sum += views;
                Some(*sum)
            })
            .collect();
        let total = sums[top - 1];
        let draw = |_| {
            let point = fastrand::f64() * total;
            self.popular[sums.partition_point(|sum| *sum <= point).min(top - 1)]
        };
        (0..count).map(draw).collect()
    }

    /// All products in random order.
    pub fn shuffled(&self) -> Vec<i64> {
        let mut all = self.popular.clone();
        fastrand::shuffle(&mut all);
        all
    }
}

/// Stores `body` in Redis for each product, as the contender that passes Redis through reads it.
pub async fn fill_raw(redis_url: &str, ids: &[i64], body: &str) {
    let mut pipeline = redis::pipe();
    for id in ids {
        pipeline.set(format!("raw:{id}"), body);
    }
    pipeline.exec_async(&mut connect(redis_url).await).await.expect("Redis is filled");
}

/// Empties the database of Redis that the URL names.
pub async fn flush(redis_url: &str) {
    redis::cmd("FLUSHDB").exec_async(&mut connect(redis_url).await).await.expect("Redis is emptied");
}

async fn connect(redis_url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis_url).expect("the URL of Redis");
    client.get_multiplexed_async_connection().await.expect("a connection to Redis")
}
