//! Cities, for the examples that are about something else: the type, its policy, its names, its SQL.

use std::{collections::HashMap, time::Duration};

use aside::cache::{Cache, Cacheable, DbTime, Format, Key, Label, Loaded, Name, Policy, Residency, Sensitivity};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Row};

use super::support::Failed;

/// A city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct City {
    pub id: i64,
    pub name: String,
    pub country: String,
}

impl Cacheable for City {
    const POLICY: Policy = Policy {
        pattern: "example-city",
        l1: Duration::from_secs(30),
        l2: Duration::from_secs(600),
        absent: Duration::from_secs(10),
        max_age: Duration::from_secs(600),
        stale_on_outage: Duration::ZERO,
        jitter_percent: 10,
        format: Format::Json,
        shape: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
    };
}

impl City {
    /// Its key, whose name the ledger counts its changes under.
    pub fn key(id: i64) -> Key<Self> {
        Key::shared(&[&id])
    }
}

/// The tag of all lists of a country's cities.
pub fn tag(country: &str) -> Name {
    Name::shared("example-cities", &[&country])
}

/// An empty table of cities.
pub async fn prepare(db: &PgPool, cache: &Cache) -> Result<(), sqlx::Error> {
    let table =
        "create table if not exists example_cities (id bigint primary key, name text not null, country text not null)";
    sqlx::query(table).execute(db).await?;
    let mut write = cache.begin().await?;
    let sql = "delete from example_cities returning id, country";
    let gone: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(write.db()).await?;
    for (id, country) in gone {
        write.touch(City::key(id).name().clone());
        write.touch(tag(&country));
    }
    write.commit().await
}

/// Writes a city: begin, change, name what changed, commit.
pub async fn write(cache: &Cache, id: i64, name: &str, country: &str) -> Result<(), sqlx::Error> {
    let mut write = cache.begin().await?;
    let sql = "insert into example_cities values ($1, $2, $3)
               on conflict (id) do update set name = excluded.name, country = excluded.country";
    sqlx::query(sql).bind(id).bind(name).bind(country).execute(write.db()).await?;
    write.touch(City::key(id).name().clone());
    write.touch(tag(country));
    write.commit().await
}

/// Loads cities in one statement: an answer for each id, with its number and the time.
pub async fn load_many(db: &PgPool, ids: Vec<i64>) -> Result<HashMap<i64, Loaded<City>>, Failed> {
    let sql = "select asked.id, city.name, city.country, coalesce(ledger.ver, 0) as ver,
            (extract(epoch from now()) * 1000000)::bigint as loaded_at
        from unnest($1::bigint[]) as asked (id)
        left join example_cities city on city.id = asked.id
        left join cache_ledger ledger on ledger.name = 'example-city:' || asked.id";
    let rows = sqlx::query(sql).bind(ids).fetch_all(db).await?;
    let loaded = rows.iter().map(|row| {
        let id = row.try_get("id")?;
        let name: Option<String> = row.try_get("name")?;
        let country: Option<String> = row.try_get("country")?;
        let value = name.zip(country).map(|(name, country)| City { id, name, country });
        let labels = vec![Label { name: City::key(id).name().clone(), version: row.try_get("ver")? }];
        Ok((id, Loaded { value, labels, loaded_at: DbTime(row.try_get("loaded_at")?) }))
    });
    loaded.collect()
}
