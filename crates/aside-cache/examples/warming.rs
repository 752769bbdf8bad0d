//! Warming: the tiers are filled before anyone asks, in batches and within a limit, and a warmer that fails stops no other.
//! `scripts/services.sh cargo run --example warming`

#[path = "support/cities.rs"]
mod cities;
#[path = "support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use aside_cache::{CacheMode, CacheWarmer, Outcome, WarmingResult};
use cities::City;
use sqlx::PgPool;
use support::{Failed, Failure};

fn main() -> ExitCode {
    support::main("warming", run)
}

/// Returns the result of warming, and the outcome of the first read after it.
pub async fn run(db: PgPool) -> Result<(WarmingResult, Outcome), Failure> {
    let cache = support::cache(&db).await?;
    cities::prepare(&db, &cache).await?;
    for (id, name) in [(1, "Bonn"), (2, "Köln"), (3, "Aachen")] {
        cities::write(&cache, id, name, "DE").await?;
    }
    let (tiers, pool) = (cache.clone(), db.clone());
    let cities = async move {
        let ids: Vec<i64> = sqlx::query_scalar("select id from example_cities order by id").fetch_all(&pool).await?;
        let mut count = 0;
        for batch in ids.chunks(2) {
            let (pool, keys) = (pool.clone(), batch.iter().map(|id| (*id, City::key(*id))).collect());
            let load = |missing| async move { cities::load_many(&pool, missing).await };
            count += tiers.warm_many(keys, CacheMode::Default, load).await?;
        }
        Ok::<_, Failed>(count)
    };
    let broken = async { Err::<usize, _>("there is no such table") };
    let warmer = CacheWarmer::new().with("cities", cities).with("broken", broken);
    let result = cache.warm(warmer, Duration::from_secs(10)).await;
    for report in &result.warmers {
        println!(
            "{}: {} warmed, {}",
            report.name,
            report.warmed,
            report.error.as_deref().unwrap_or("without an error")
        );
    }
    let load = |missing| async move { cities::load_many(&db, missing).await };
    let reads = cache.get_or_load_many(vec![(1, City::key(1))], CacheMode::Default, load).await?;
    let (_, read) = reads.first().ok_or("an answer is missing")?;
    println!("the first read: {:?} from {}", read.entry.value, read.outcome.as_str());
    let outcome = read.outcome;
    cache.shutdown().await;
    Ok((result, outcome))
}
