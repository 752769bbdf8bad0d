//! The smallest cache-aside: a type with its policy, a read, a write.
//! `scripts/services.sh cargo run --package aside-cache --example cache_aside`

#[path = "support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use aside_cache::{Cache, Cacheable, Cached, Error, Key, Outcome, Policy};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};

#[derive(Debug, Serialize, Deserialize, FromRow)]
pub struct River {
    name: String,
}

impl Cacheable for River {
    const POLICY: Policy = Policy::public("river", Duration::from_mins(10));
}

/// A read: L1, then L2, then this select. Versions and read time come from the same snapshot.
pub async fn read(cache: &Cache, id: i64) -> Result<Cached<River>, Error> {
    let query = sqlx::query_as("select name from rivers where id = $1").bind(id);
    cache.get(Key::new(id)).one(query).await
}

/// A write: change, invalidate. The cache isn't given the new value: the next reader loads it.
pub async fn write(cache: &Cache, id: i64, name: &'static str) -> Result<(), Error> {
    let upsert = async move |tx: &mut aside_cache::Write| {
        let sql = "insert into rivers values ($1, $2) on conflict (id) do update set name = excluded.name";
        sqlx::query(sql).bind(id).bind(name).execute(tx.conn()).await?;
        tx.invalidate(Key::<River>::new(id));
        Ok(())
    };
    cache.write(upsert).await
}

fn main() -> ExitCode {
    support::main("cache_aside", run)
}

/// Returns where each answer came from.
pub async fn run(db: PgPool) -> Result<Vec<Outcome>, support::Failure> {
    let cache = support::cache(&db).await?;
    sqlx::query("create table if not exists rivers (id bigint primary key, name text not null)").execute(&db).await?;
    let mut outcomes = Vec::new();
    for name in ["Rhine", "Rhein"] {
        write(&cache, 1, name).await?;
        for _ in 0..2 {
            let read = read(&cache, 1).await?;
            println!("{:?} from {}", read.entry.value, read.outcome.as_str());
            outcomes.push(read.outcome);
        }
    }
    cache.shutdown().await;
    Ok(outcomes)
}
