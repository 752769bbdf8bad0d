//! A walk through the policy: the effect of its fields on one value, with a clock that the example moves forward and an L2 whose entries it lists.
//! `scripts/services.sh cargo run --package aside-cache --example policies`

#[path = "support/mod.rs"]
#[allow(dead_code)] // its cache is set up here
mod support;

use std::{process::ExitCode, sync::Arc, time::Duration};

use aside_cache::{
    Cache, CacheConfig, CacheMode, Cacheable, Clock, DbTime, Error, Key, Loaded, MemoryL2, Outcome, Policy, Residency,
    Tenant,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use support::Failure;

fn main() -> ExitCode {
    support::main("policies", run)
}

/// A public value.
#[derive(Debug, Serialize, Deserialize)]
struct Rate(f64);

impl Cacheable for Rate {
    // The name is the first segment of every key and the label of the type's metrics. The lifetime
    // is that in L2, before jitter, and the maximum age: no tier serves an older value. How fresh a
    // value is after a write does not depend on it.
    const POLICY: Policy = Policy::public("rate", Duration::from_mins(1))
        // At the end of the lifetime in the process, the value is served once more, while one load
        // refreshes it.
        .l1_ttl(Duration::from_secs(10))
        // An absence is cached shortly where it may end soon.
        .negative_ttl(Duration::from_secs(5))
        // For how much longer a value may be served, flagged, while Postgres is down.
        .stale_if_error(Duration::from_mins(10));
}

/// A value of one tenant. Without encryption keys it stays out of L2.
#[derive(Debug, Serialize, Deserialize)]
struct Address(String);

impl Cacheable for Address {
    const POLICY: Policy = Policy::personal("address", Duration::from_mins(1));
}

/// A value that is cheaper to compute than a round trip to Redis.
#[derive(Debug, Serialize, Deserialize)]
struct Sum(i64);

impl Cacheable for Sum {
    const POLICY: Policy = Rate::POLICY.named("sum").residency(Residency::ProcessOnly);
}

/// Reads a value that depends on no tag: only time makes it stale.
async fn read<T: Cacheable>(cache: &Cache, db: &PgPool, key: Key<T>, value: T) -> Result<Outcome, Error> {
    let db = db.clone();
    let load = move || async move {
        let sql = "select (extract(epoch from now()) * 1000000)::bigint";
        let loaded_at = DbTime(sqlx::query_scalar(sql).fetch_one(&db).await?);
        Ok::<_, Error>(Loaded { value: Some(value), tag_versions: Vec::new(), loaded_at, valid_until: None })
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
    let config = CacheConfig {
        l2: Some(Arc::new(l2.clone())),
        clock: clock.clone(),
        // No load but those of the reads below.
        sampled_loads: None,
        ..CacheConfig::default()
    };
    let cache = support::cache_with(&db, config).await?;
    let tenant = Tenant::parse("demo").ok_or("not a tenant")?;
    let rate = || Key::<Rate>::new(("EUR", "USD"));

    let mut outcomes = vec![
        read(&cache, &db, rate(), Rate(1.1)).await?,
        read(&cache, &db, rate(), Rate(1.1)).await?,
        read(&cache, &db, Key::of_tenant(&tenant, 7), Address("1 High Street".into())).await?,
        read(&cache, &db, Key::new(1), Sum(3)).await?,
    ];
    // Fills continue after the answers.
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
