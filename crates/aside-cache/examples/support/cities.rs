//! Cities, for the examples that are about something else: the type, its policy, its names, its SQL.

use std::{collections::HashMap, time::Duration};

use aside_cache::{Cache, Cacheable, DbTime, Format, Key, Loaded, Policy, Residency, Sensitivity, Tag, TagVersion};
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
        name: "example-city",
        l1_ttl: Duration::from_secs(30),
        l2_ttl: Duration::from_secs(600),
        negative_ttl: Duration::from_secs(10),
        max_age: Duration::from_secs(600),
        stale_if_error: Duration::ZERO,
        jitter_percent: 10,
        format: Format::Json,
        schema_version: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
    };
}

impl City {
    /// Its key, whose name the ledger counts its changes under.
    pub fn key(id: i64) -> Key<Self> {
        Key::new(id)
    }
}

/// The tag of all lists of a country's cities.
pub fn tag(country: &str) -> Tag {
    Tag::new("example-cities", country)
}

/// An empty table of cities.
pub async fn prepare(db: &PgPool, cache: &Cache) -> Result<(), sqlx::Error> {
    let table =
        "create table if not exists example_cities (id bigint primary key, name text not null, country text not null)";
    sqlx::query(table).execute(db).await?;
    let mut write = cache.begin().await?;
    let sql = "delete from example_cities returning id, country";
    let gone: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(write.conn()).await?;
    for (id, country) in gone {
        write.invalidate(City::key(id).tag().clone());
        write.invalidate(tag(&country));
    }
    write.commit().await
}

/// Writes a city: begin, change, name what changed, commit.
pub async fn write(cache: &Cache, id: i64, name: &str, country: &str) -> Result<(), sqlx::Error> {
    let mut write = cache.begin().await?;
    let sql = "insert into example_cities values ($1, $2, $3)
               on conflict (id) do update set name = excluded.name, country = excluded.country";
    sqlx::query(sql).bind(id).bind(name).bind(country).execute(write.conn()).await?;
    write.invalidate(City::key(id).tag().clone());
    write.invalidate(tag(country));
    write.commit().await
}

/// Loads cities in one statement: an answer for each id, with its number and the time.
pub async fn load_many(db: &PgPool, ids: Vec<i64>) -> Result<HashMap<i64, Loaded<City>>, Failed> {
    let sql = "select asked.id, city.name, city.country, coalesce(ledger.version, 0) as tag_version,
            (extract(epoch from now()) * 1000000)::bigint as loaded_at
        from unnest($1::bigint[]) as asked (id)
        left join example_cities city on city.id = asked.id
        left join cache_ledger ledger on ledger.tag = 'example-city:' || asked.id";
    let rows = sqlx::query(sql).bind(ids).fetch_all(db).await?;
    let loaded = rows.iter().map(|row| {
        let id = row.try_get("id")?;
        let name: Option<String> = row.try_get("name")?;
        let country: Option<String> = row.try_get("country")?;
        let value = name.zip(country).map(|(name, country)| City { id, name, country });
        let tag_versions = vec![TagVersion { tag: City::key(id).tag().clone(), version: row.try_get("tag_version")? }];
        Ok((id, Loaded { value, tag_versions, loaded_at: DbTime(row.try_get("loaded_at")?) }))
    });
    loaded.collect()
}
