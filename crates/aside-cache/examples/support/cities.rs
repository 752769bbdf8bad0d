//! Cities, for the examples that are about something else: the type, its policy, its tags, its SQL.

use std::time::Duration;

use aside_cache::{Cache, Cacheable, Error, Key, Policy, Tag, Write};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool, Postgres, postgres::PgArguments, query::QueryAs};

/// A city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
pub struct City {
    pub id: i64,
    pub name: String,
    pub country: String,
}

impl Cacheable for City {
    const POLICY: Policy = Policy::public("example-city", Duration::from_mins(10));
}

/// The key of a city, whose tag counts its changes.
pub fn key(id: &i64) -> Key<City> {
    Key::new(id)
}

/// The tag of all lists of a country's cities.
pub fn list_tag(country: &str) -> Tag {
    Tag::new("example-cities", country)
}

/// Selects cities by their ids.
pub fn select(ids: Vec<i64>) -> QueryAs<'static, Postgres, City, PgArguments> {
    sqlx::query_as("select id, name, country from example_cities where id = any($1)").bind(ids)
}

/// An empty table of cities.
pub async fn prepare(db: &PgPool, cache: &Cache) -> Result<(), Error> {
    let table =
        "create table if not exists example_cities (id bigint primary key, name text not null, country text not null)";
    sqlx::query(table).execute(db).await?;
    let empty = async |tx: &mut Write| {
        let sql = "delete from example_cities returning id, name, country";
        let gone: Vec<City> = sqlx::query_as(sql).fetch_all(tx.conn()).await?;
        for City { id, country, .. } in gone {
            tx.invalidate(key(&id));
            tx.invalidate(list_tag(&country));
        }
        Ok(())
    };
    cache.write(empty).await
}

/// Writes a city, and invalidates it and the lists of its country. A city that moves to another
/// country leaves a list too.
pub async fn write(cache: &Cache, id: i64, name: &'static str, country: &'static str) -> Result<(), Error> {
    let upsert = async move |tx: &mut Write| {
        let before = "select country from example_cities where id = $1 for update";
        let before: Option<String> = sqlx::query_scalar(before).bind(id).fetch_optional(tx.conn()).await?;
        let sql = "insert into example_cities values ($1, $2, $3)
                   on conflict (id) do update set name = excluded.name, country = excluded.country";
        sqlx::query(sql).bind(id).bind(name).bind(country).execute(tx.conn()).await?;
        tx.invalidate(key(&id));
        tx.invalidate_all(before.as_deref().into_iter().chain([country]).map(list_tag));
        Ok(())
    };
    cache.write(upsert).await
}
