//! Warming: the tiers are filled before the first request, in batches and within a time limit. A
//! warmer that fails stops no other.
//! `scripts/services.sh cargo run --package aside-cache --example warming`

#[path = "support/cities.rs"]
mod cities;
#[path = "support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use aside_cache::{CacheWarmer, Error, Outcome, WarmingResult};
use sqlx::PgPool;
use support::Failure;

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
    let tiers = cache.clone();
    let cities = async move {
        let ids: Vec<i64> = sqlx::query_scalar("select id from example_cities order by id").fetch_all(&db).await?;
        let mut count = 0;
        for batch in ids.chunks(2) {
            count += tiers.get_many(batch.to_vec(), cities::key).warm("id", cities::select).await?;
        }
        Ok::<_, Error>(count)
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
    let reads = cache.get_many([1], cities::key).rows("id", cities::select).await?;
    let (_, read) = reads.first().ok_or("an answer is missing")?;
    println!("the first read: {:?} from {}", read.entry.value, read.outcome.as_str());
    let outcome = read.outcome;
    cache.shutdown().await;
    Ok((result, outcome))
}
