//! A walk through the policy: the effect of its fields on one value, with a clock that the example moves forward and an L2 whose entries it lists.
//! `scripts/services.sh cargo run --example policies`

#[path = "support/mod.rs"]
#[allow(dead_code)] // its cache is set up here
mod support;

use std::{process::ExitCode, sync::Arc, time::Duration};

use aside_cache::{
    Cache, CacheConfig, CacheMode, Cacheable, Clock, DbTime, Format, Key, Loaded, MemoryL2, Outcome, Policy, Residency,
    Sensitivity, Tenant,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use support::{Failed, Failure};

fn main() -> ExitCode {
    support::main("policies", run)
}

/// A public value.
#[derive(Debug, Serialize, Deserialize)]
struct Rate(f64);

impl Cacheable for Rate {
    const POLICY: Policy = Policy {
        // First part of every key, and the label of the type's metrics.
        name: "rate",
        // In the process. At its end the value is served once more, while one load refreshes it.
        l1_ttl: Duration::from_secs(10),
        // In Redis, before jitter.
        l2_ttl: Duration::from_secs(60),
        // "There is none": short, where somebody may be about to make one.
        negative_ttl: Duration::from_secs(5),
        // Never served beyond this, wherever it was kept. Not how fresh it is after a write: that doesn't depend on lifetimes.
        max_age: Duration::from_secs(60),
        // For how much longer it may be served, flagged, while Postgres is down.
        stale_if_error: Duration::from_secs(600),
        // Each lifetime is shortened by up to this percentage, so that entries made together do not expire together.
        jitter_percent: 10,
        // The bytes of the answer, or MessagePack, which is smaller and must be encoded again.
        format: Format::Json,
        schema_version: "1",
        // From so many bytes on, L2 gets it compressed.
        compress_above: 1024,
        // Everybody's. Anything else has keys that name a tenant; the compiler sees to it.
        sensitivity: Sensitivity::Public,
        // In every region.
        residency: Residency::Shared,
    };
}

/// A value of one tenant. Without encryption keys it stays out of L2.
#[derive(Debug, Serialize, Deserialize)]
struct Address(String);

impl Cacheable for Address {
    const POLICY: Policy =
        Policy { name: "address", sensitivity: Sensitivity::Personal, stale_if_error: Duration::ZERO, ..Rate::POLICY };
}

/// A value that is cheaper to compute than a round trip to Redis.
#[derive(Debug, Serialize, Deserialize)]
struct Sum(i64);

impl Cacheable for Sum {
    const POLICY: Policy = Policy { name: "sum", residency: Residency::ProcessOnly, ..Rate::POLICY };
}

/// A value that depends on no name of the ledger: only time makes it old.
async fn read<T: Cacheable>(cache: &Cache, db: &PgPool, key: Key<T>, value: T) -> Result<Outcome, Failed> {
    let db = db.clone();
    let load = move || async move {
        let sql = "select (extract(epoch from now()) * 1000000)::bigint";
        let loaded_at = DbTime(sqlx::query_scalar(sql).fetch_one(&db).await?);
        Ok::<_, Failed>(Loaded { value: Some(value), tag_versions: Vec::new(), loaded_at })
    };
    let outcome = cache.get_or_load(&key, CacheMode::Default, load).await?.outcome;
    println!("{key:?} from {}", outcome.as_str());
    Ok(outcome)
}

/// The observations of the walk.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub outcomes: Vec<Outcome>,
    /// The keys that L2 holds.
    pub in_l2: Vec<String>,
}

pub async fn run(db: PgPool) -> Result<Seen, Failure> {
    let clock = Clock::adjustable();
    let l2 = MemoryL2::new(clock.clone());
    let config = CacheConfig { l2: Some(Arc::new(l2.clone())), clock: clock.clone(), ..CacheConfig::default() };
    let cache = support::cache_with(&db, config).await?;
    let tenant = Tenant::parse("demo").ok_or("not a tenant")?;
    let rate = || Key::<Rate>::new(("EUR", "USD"));

    let mut outcomes = vec![
        read(&cache, &db, rate(), Rate(1.1)).await?,
        read(&cache, &db, rate(), Rate(1.1)).await?,
        read(&cache, &db, Key::of_tenant(&tenant, 7), Address("1 High Street".into())).await?,
        read(&cache, &db, Key::new(1), Sum(3)).await?,
    ];
    // Fills go on behind the answers.
    support::until(|| !l2.keys().is_empty()).await?;
    println!("twice the lifetime in L1 later:");
    clock.advance(2 * Rate::POLICY.l1_ttl);
    support::until(|| cache.is_current()).await?;
    outcomes.push(read(&cache, &db, rate(), Rate(1.2)).await?);
    println!("the greatest age later:");
    clock.advance(Rate::POLICY.max_age);
    support::until(|| cache.is_current()).await?;
    outcomes.push(read(&cache, &db, rate(), Rate(1.3)).await?);
    cache.shutdown().await;
    let in_l2 = l2.keys();
    println!("in L2: {in_l2:?}");
    Ok(Seen { outcomes, in_l2 })
}
