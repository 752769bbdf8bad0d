//! A list depends on a tag that every change of its members raises. One row in the ledger makes all
//! pages of the list stale at once.
//! `scripts/services.sh cargo run --package aside-cache --example tags`

#[path = "support/cities.rs"]
#[allow(dead_code)] // single cities are not read here
pub mod cities;
#[path = "support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use aside_cache::{Cache, Cacheable, Cached, Error, Key, Outcome, Policy};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use cities::City;
use support::Failure;

fn main() -> ExitCode {
    support::main("tags", run)
}

/// The names of a country's cities.
#[derive(Debug, Serialize, Deserialize)]
pub struct Names(Vec<String>);

impl From<Vec<City>> for Names {
    fn from(cities: Vec<City>) -> Self {
        Self(cities.into_iter().map(|city| city.name).collect())
    }
}

impl Cacheable for Names {
    const POLICY: Policy = Policy::public("example-cities", Duration::from_mins(10));
}

pub async fn list(cache: &Cache, country: &'static str) -> Result<Cached<Names>, Error> {
    let sql = "select id, name, country from example_cities where country = $1 order by name";
    let query = sqlx::query_as::<_, City>(sql).bind(country);
    cache.get(Key::new((country, "by-name"))).depends_on(cities::list_tag(country)).list(query).await
}

/// Returns the result of each read of a list, and its outcome.
pub async fn run(db: PgPool) -> Result<Vec<(Vec<String>, Outcome)>, Failure> {
    let cache = support::cache(&db).await?;
    cities::prepare(&db, &cache).await?;
    cities::write(&cache, 1, "Bonn", "DE").await?;
    cities::write(&cache, 2, "Lyon", "FR").await?;
    let mut seen = Vec::new();
    for country in ["DE", "FR"] {
        seen.push(list(&cache, country).await?);
    }
    println!("a city comes to DE");
    cities::write(&cache, 3, "Aachen", "DE").await?;
    for country in ["DE", "FR"] {
        seen.push(list(&cache, country).await?);
    }
    println!("all lists of FR are invalidated by hand");
    cache.invalidate([cities::list_tag("FR")]).await?;
    seen.push(list(&cache, "FR").await?);
    cache.shutdown().await;

    let told = seen.iter().map(|read| {
        let names = read.entry.value.as_ref().map(|names| names.0.clone()).unwrap_or_default();
        println!("{names:?} from {}", read.outcome.as_str());
        (names, read.outcome)
    });
    Ok(told.collect())
}
