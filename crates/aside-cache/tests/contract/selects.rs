//! Reads by a caller's plain select: `one`, `list` and `rows`.

use std::time::Duration;

use aside_cache::{Cache, CacheMode, Cacheable, Cached, Error, Key, Outcome, Policy, Tag};
use aside_testkit::Gate;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool, Postgres, postgres::PgArguments, query::QueryAs};

use super::bench::{Backend, Bench};

/// A row whose columns may be null, with an identifier that has to be escaped in tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
struct City {
    name: String,
    country: String,
    motto: Option<String>,
}

impl Cacheable for City {
    const POLICY: Policy = Policy::public("city", Duration::from_mins(1));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cities(Vec<City>);

impl From<Vec<City>> for Cities {
    fn from(cities: Vec<City>) -> Self {
        Self(cities)
    }
}

impl Cacheable for Cities {
    const POLICY: Policy = Policy::public("city-list", Duration::from_mins(1));
}

/// A value that is read from a tuple.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Count(i64);

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for Count {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        <(i64,)>::from_row(row).map(|(count,)| Self(count))
    }
}

impl Cacheable for Count {
    const POLICY: Policy = Policy::public("count", Duration::from_mins(1));
}

/// The names of the cities, in the order of a list. One has to be escaped.
const NAMES: [&str; 3] = ["Sankt Augustin", "Bonn", "50%:_"];

async fn prepare(pool: &PgPool) -> Cache {
    let table = "create table cities (name text primary key, country text not null, motto text, place int not null)";
    sqlx::query(table).execute(pool).await.expect("a table");
    for (place, name) in NAMES.iter().enumerate() {
        let sql = "insert into cities values ($1, 'DE', null, $2)";
        sqlx::query(sql).bind(name).bind(place as i32).execute(pool).await.expect("a city");
    }
    Bench::new(pool, Backend::None).await.cache().await
}

fn city(name: &str) -> Key<City> {
    Key::new(name)
}

fn select_city(name: &str) -> QueryAs<'static, Postgres, City, PgArguments> {
    sqlx::query_as("select name, country, motto from cities where name = $1;").bind(name.to_owned())
}

async fn read(cache: &Cache, name: &str) -> (Option<City>, Outcome) {
    let read = cache.get(city(name)).one(select_city(name)).await.expect("an answer");
    (read.entry.value.clone(), read.outcome)
}

async fn list(cache: &Cache, country: &str) -> Cached<Cities> {
    let sql = "select name, country, motto from cities where country = $1 order by place";
    let query = sqlx::query_as::<_, City>(sql).bind(country.to_owned());
    let get = cache.get(Key::<Cities>::new(country)).depends_on(Tag::new("city-list", country));
    get.row_tag("city", "name").list(query).await.expect("an answer")
}

fn names(read: &Cached<Cities>) -> Vec<&str> {
    let cities = read.entry.value.as_ref().expect("a list");
    cities.0.iter().map(|city| city.name.as_str()).collect()
}

async fn set_motto(cache: &Cache, name: &'static str, motto: &'static str) {
    let update = async move |tx: &mut aside_cache::Write| {
        let sql = "insert into cities values ($1, 'DE', $2, 9) on conflict (name) do update set motto = excluded.motto";
        sqlx::query(sql).bind(name).bind(motto).execute(tx.conn()).await?;
        tx.invalidate(city(name));
        Ok::<_, Error>(())
    };
    cache.write(update).await.expect("written");
}

#[sqlx::test]
async fn a_row_and_its_absence_are_cached_and_invalidated(pool: PgPool) {
    let cache = prepare(&pool).await;
    for name in [NAMES[0], "Nowhere"] {
        let (before, outcome) = read(&cache, name).await;
        assert_eq!((before.is_some(), outcome), (name == NAMES[0], Outcome::LoadedCold));
        assert_eq!(read(&cache, name).await, (before, Outcome::L1Hit));
    }
    set_motto(&cache, NAMES[0], "Wissen").await;
    set_motto(&cache, "Nowhere", "Here").await;
    for (name, motto) in [(NAMES[0], "Wissen"), ("Nowhere", "Here")] {
        let (after, outcome) = read(&cache, name).await;
        assert_eq!((after.expect("there").motto.as_deref(), outcome), (Some(motto), Outcome::LoadedCold), "evicted");
    }
}

#[sqlx::test]
async fn an_answer_carries_the_version_of_its_own_snapshot(pool: PgPool) {
    let cache = prepare(&pool).await;
    set_motto(&cache, "Bonn", "one").await;
    let loaded = cache.get(city("Bonn")).mode(CacheMode::NoStore).one(select_city("Bonn")).await.expect("an answer");
    let sql = "select version from cache_ledger where tag = 'city:Bonn'";
    let version: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.expect("a version");
    assert_eq!(loaded.entry.tag_versions.len(), 1);
    assert_eq!(
        (loaded.entry.tag_versions[0].tag.as_str(), loaded.entry.tag_versions[0].version),
        ("city:Bonn", version)
    );
}

#[sqlx::test]
async fn an_absence_that_ends_while_it_is_read_is_not_stored(pool: PgPool) {
    let cache = prepare(&pool).await;
    let gate = Gate::table(&pool, "cities").await;
    let reading = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "Nowhere").await }
    });
    gate.until_waiting(1).await;
    let writing = tokio::spawn({
        let cache = cache.clone();
        async move { set_motto(&cache, "Nowhere", "Here").await }
    });
    gate.until_waiting(2).await;
    gate.open().await;
    reading.await.expect("an answer");
    writing.await.expect("written");
    assert_eq!(read(&cache, "Nowhere").await.0.expect("there").motto.as_deref(), Some("Here"));
}

#[sqlx::test]
async fn a_list_keeps_its_order_and_depends_on_its_tag_and_on_each_row(pool: PgPool) {
    let cache = prepare(&pool).await;
    let first = list(&cache, "DE").await;
    assert_eq!(names(&first), NAMES);
    let tags: Vec<_> = first.entry.tag_versions.iter().map(|version| version.tag.clone()).collect();
    let rows = NAMES.map(|name| city(name).tag().clone());
    assert_eq!(tags, [[Tag::new("city-list", "DE")].as_slice(), rows.as_slice()].concat());
    assert_eq!(list(&cache, "DE").await.outcome, Outcome::L1Hit);
    for name in NAMES {
        set_motto(&cache, name, "new").await;
        let again = list(&cache, "DE").await;
        assert_eq!((again.outcome, names(&again)), (Outcome::LoadedInvalidated, NAMES.to_vec()), "{name}");
    }
    cache.invalidate([Tag::new("city-list", "DE")]).await.expect("invalidated");
    assert!(list(&cache, "DE").await.outcome.is_load());
}

#[sqlx::test]
async fn an_empty_list_is_an_answer_with_the_version_of_its_tag(pool: PgPool) {
    let cache = prepare(&pool).await;
    cache.invalidate([Tag::new("city-list", "FR")]).await.expect("invalidated");
    let empty = list(&cache, "FR").await;
    assert!(names(&empty).is_empty());
    assert_eq!(empty.entry.tag_versions.len(), 1);
    assert!(empty.entry.tag_versions[0].version > 0);
    assert_eq!(list(&cache, "FR").await.outcome, Outcome::L1Hit);
}

#[sqlx::test]
async fn a_tuple_and_an_aggregate_are_read_too(pool: PgPool) {
    let cache = prepare(&pool).await;
    let query = || sqlx::query_as::<_, Count>("select count(*) from cities where country = $1").bind("DE");
    let get = || cache.get(Key::<Count>::new("DE")).depends_on(Tag::new("city-list", "DE"));
    assert_eq!(get().one(query()).await.expect("an answer").entry.value, Some(Count(3)));
    sqlx::query("delete from cities where name = 'Bonn'").execute(&pool).await.expect("deleted");
    cache.invalidate([Tag::new("city-list", "DE")]).await.expect("invalidated");
    assert_eq!(get().one(query()).await.expect("an answer").entry.value, Some(Count(2)));
}

#[sqlx::test]
async fn many_rows_are_matched_to_their_keys_and_the_rest_are_absences(pool: PgPool) {
    let cache = prepare(&pool).await;
    let asked = ["Bonn", "Nowhere", NAMES[2], "50%", NAMES[0]].map(str::to_owned);
    let select = |missing: Vec<String>| {
        sqlx::query_as::<_, City>("select name, country, motto from cities where name = any($1)").bind(missing)
    };
    let read = cache.get_many(asked.clone(), |name| city(name)).rows("name", select).await.expect("answers");
    let found: Vec<_> = read
        .iter()
        .map(|(name, read)| (name.as_str(), read.entry.value.as_ref().map(|city| city.name.as_str())))
        .collect();
    let expected = [
        ("Bonn", Some("Bonn")),
        ("Nowhere", None),
        (NAMES[2], Some(NAMES[2])),
        ("50%", None),
        (NAMES[0], Some(NAMES[0])),
    ];
    assert_eq!(found, expected);
    set_motto(&cache, "Nowhere", "Here").await;
    let again = cache.get_many(asked, |name| city(name)).rows("name", select).await.expect("answers");
    let outcomes: Vec<_> = again.iter().map(|(_, read)| read.outcome).collect();
    let hit = Outcome::L1Hit;
    assert_eq!(outcomes, [hit, Outcome::LoadedCold, hit, hit, hit]);
    assert!(again[1].1.entry.value.is_some());
}

#[sqlx::test]
async fn a_select_that_fails_is_an_error_and_is_not_cached(pool: PgPool) {
    let cache = prepare(&pool).await;
    let wrong = sqlx::query_as::<_, City>("select name from nowhere");
    let failed = cache.get(city("Bonn")).one(wrong).await.expect_err("no such table");
    assert!(matches!(&failed, Error::Database(_)) && !failed.is_unavailable(), "{failed}");
    assert!(read(&cache, "Bonn").await.0.is_some());
}
