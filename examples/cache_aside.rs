//! The smallest cache-aside: a type with its policy, a read, a write. Each field of a policy is explained in `policies.rs`.
//! `scripts/services.sh cargo run --example cache_aside`

#[path = "support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use aside::cache::{
    Cache, CacheMode, Cacheable, Cached, DbTime, Format, Key, Loaded, Outcome, Policy, Residency, Sensitivity,
    TagVersion,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Row};
use support::{Failed, Failure};

fn main() -> ExitCode {
    support::main("cache_aside", run)
}

#[derive(Debug, Serialize, Deserialize)]
struct River(String);

#[rustfmt::skip] // in the few lines that it is
impl Cacheable for River {
    const POLICY: Policy = Policy {
        name: "river", l1_ttl: Duration::from_secs(30), l2_ttl: Duration::from_secs(600), max_age: Duration::from_secs(600),
        negative_ttl: Duration::from_secs(10), stale_if_error: Duration::ZERO, jitter_percent: 10, format: Format::Json, schema_version: "1",
        compress_above: 1024, sensitivity: Sensitivity::Public, residency: Residency::Shared,
    };
}

/// The key of a river. The ledger counts its changes under the same name.
fn key(id: i64) -> Key<River> {
    Key::shared(&[&id])
}

/// A read: L1, L2, else this one statement. It brings the value, the tag version it depends on, and the time.
async fn read(cache: &Cache, db: PgPool, id: i64) -> Result<Cached<River>, Failed> {
    let load = move || async move {
        let sql = "select (select name from rivers where id = $1) as value,
            coalesce((select version from cache_ledger where tag = 'river:' || $1), 0) as number,
            (extract(epoch from now()) * 1000000)::bigint as time";
        let row = sqlx::query(sql).bind(id).fetch_one(&db).await?;
        let tag_versions = vec![TagVersion { tag: key(id).tag().clone(), version: row.try_get("number")? }];
        let value = row.try_get::<Option<String>, _>("value")?.map(River);
        Ok(Loaded { value, tag_versions, loaded_at: DbTime(row.try_get("time")?) })
    };
    cache.get_or_load(&key(id), CacheMode::Default, load).await
}

/// A write: begin, change, name what changed, commit. The cache isn't given the new value: the next reader loads it.
async fn write(cache: &Cache, id: i64, name: &str) -> Result<(), Failed> {
    let mut write = cache.begin().await?;
    let sql = "insert into rivers values ($1, $2) on conflict (id) do update set name = excluded.name";
    sqlx::query(sql).bind(id).bind(name).execute(write.conn()).await?;
    write.invalidate(key(id).tag().clone());
    Ok(write.commit().await?)
}

/// Returns where each answer came from.
pub async fn run(db: PgPool) -> Result<Vec<Outcome>, Failure> {
    let cache = support::cache(&db).await?;
    sqlx::query("create table if not exists rivers (id bigint primary key, name text not null)").execute(&db).await?;
    let mut outcomes = Vec::new();
    for name in ["Rhine", "Rhein"] {
        write(&cache, 1, name).await?;
        for _ in 0..2 {
            let read = read(&cache, db.clone(), 1).await?;
            println!("{:?} from {}", read.entry.value, read.outcome.as_str());
            outcomes.push(read.outcome);
        }
    }
    cache.shutdown().await;
    Ok(outcomes)
}
