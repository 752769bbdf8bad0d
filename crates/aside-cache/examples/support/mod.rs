//! Shared by all examples: a database with the cache's tables, and a cache that may use its tiers.

use std::{env, error::Error, future::Future, process::ExitCode, sync::Arc, time::Duration};

use aside_cache::{Cache, CacheConfig, L2, RedisL2};
use sqlx::PgPool;

/// The error of an example whose requirements are missing.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs an example on the database that `DATABASE_URL` names.
pub fn main<T, F: Future<Output = Result<T, Failure>>>(name: &str, example: impl FnOnce(PgPool) -> F) -> ExitCode {
    let run = async {
        let url = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()).ok_or_else(|| {
            format!("DATABASE_URL is not set. This brings a Postgres and a Redis: scripts/services.sh cargo run --package aside-cache --example {name}")
        })?;
        example(PgPool::connect(&url).await?).await
    };
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::from);
    match runtime.and_then(|runtime| runtime.block_on(run)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A cache over this database and, if `REDIS_URL` names one, a Redis.
pub async fn cache(db: &PgPool) -> Result<Cache, Failure> {
    let url = env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    let l2 = url.map(|url| RedisL2::standalone(&url).map(|redis| Arc::new(redis) as Arc<dyn L2>)).transpose()?;
    cache_with(db, CacheConfig { namespace: "examples".into(), l2, ..CacheConfig::default() }).await
}

/// A cache with settings of the example's own. Returns when its first poll of the ledger is done: until then every read is a load.
pub async fn cache_with(db: &PgPool, config: CacheConfig) -> Result<Cache, Failure> {
    aside_cache::migrator().run(db).await?;
    // Longer than a service would: on a busy machine a late poll, or a late answer of Redis, would turn the hit that is to be shown into
    // a load.
    let config = CacheConfig { max_staleness: Duration::from_secs(60), l2_deadline: Duration::from_secs(2), ..config };
    let cache = Cache::start(config, db.clone());
    until(|| cache.is_current()).await?;
    Ok(cache)
}

/// Returns when it is so.
pub async fn until(is_so: impl Fn() -> bool) -> Result<(), Failure> {
    let asking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(20), asking).await?)
}
