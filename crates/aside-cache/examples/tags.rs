//! A list depends on a tag, a name that every change of its members raises: one row in the ledger makes all pages of it old at once.
//! `scripts/services.sh cargo run --example tags`

#[path = "support/cities.rs"]
#[allow(dead_code)] // single cities are not read here
mod cities;
#[path = "support/mod.rs"]
mod support;

use std::process::ExitCode;

use aside_cache::{Cache, CacheMode, Cacheable, Cached, DbTime, Key, Loaded, Outcome, Policy, TagVersion};
use cities::City;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Row};
use support::{Failed, Failure};

fn main() -> ExitCode {
    support::main("tags", run)
}

/// The names of a country's cities.
#[derive(Debug, Serialize, Deserialize)]
struct Names(Vec<String>);

impl Cacheable for Names {
    const POLICY: Policy = Policy { name: "example-cities", ..City::POLICY };
}

async fn list(cache: &Cache, db: &PgPool, country: &'static str) -> Result<Cached<Names>, Failed> {
    let (tag, db) = (cities::tag(country), db.clone());
    let load = move || async move {
        // One statement: names, the tag's number and the time belong together.
        let sql = "select array(select name from example_cities where country = $1 order by name) as names,
            coalesce((select version from cache_ledger where tag = $2), 0) as number,
            (extract(epoch from now()) * 1000000)::bigint as time";
        let row = sqlx::query(sql).bind(country).bind(tag.as_str()).fetch_one(&db).await?;
        let tag_versions = vec![TagVersion { tag, version: row.try_get("number")? }];
        Ok(Loaded { value: Some(Names(row.try_get("names")?)), tag_versions, loaded_at: DbTime(row.try_get("time")?) })
    };
    cache.get_or_load(&Key::new((country, "by-name")), CacheMode::Default, load).await
}

/// Returns the result of each read of a list, and its outcome.
pub async fn run(db: PgPool) -> Result<Vec<(Vec<String>, Outcome)>, Failure> {
    let cache = support::cache(&db).await?;
    cities::prepare(&db, &cache).await?;
    cities::write(&cache, 1, "Bonn", "DE").await?;
    cities::write(&cache, 2, "Lyon", "FR").await?;
    let mut seen = Vec::new();
    for country in ["DE", "FR"] {
        seen.push(list(&cache, &db, country).await?);
    }
    println!("a city comes to DE");
    cities::write(&cache, 3, "Aachen", "DE").await?;
    for country in ["DE", "FR"] {
        seen.push(list(&cache, &db, country).await?);
    }
    println!("somebody says that all lists of FR are wrong");
    cache.invalidate([cities::tag("FR")]).await?;
    seen.push(list(&cache, &db, "FR").await?);
    cache.shutdown().await;

    let told = seen.iter().map(|read| {
        let names = read.entry.value.as_ref().map(|names| names.0.clone()).unwrap_or_default();
        println!("{names:?} from {}", read.outcome.as_str());
        (names, read.outcome)
    });
    Ok(told.collect())
}
