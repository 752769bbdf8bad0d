//! Logical replication into a database with a cache. The changes that it applies raise tags too.

use std::time::Duration;

use aside_cache::{Cache, CacheConfig, Cacheable, Key, Policy};
use aside_testkit::{Temporary, eventually, postgres_server::Postgres};
use serde::{Deserialize, Serialize};
use sqlx::{
    AssertSqlSafe, FromRow, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::tracking::run;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
struct Letter {
    id: i64,
    text: String,
}

impl Cacheable for Letter {
    const POLICY: Policy = Policy::public("letter", Duration::from_mins(1));
}

/// Reads the text of a letter through the cache.
async fn text(cache: &Cache, id: i64) -> Option<String> {
    let letter = sqlx::query_as("select id, text from letters where id = $1").bind(id);
    let read = cache.get(Key::<Letter>::new(id)).one(letter).await.expect("a read");
    read.entry.value.clone().map(|letter| letter.text)
}

async fn shows(cache: &Cache, id: i64, expected: Option<&str>) {
    eventually(&format!("letter {id} is {expected:?}"), || async {
        (text(cache, id).await.as_deref() == expected).then_some(())
    })
    .await;
}

/// Opens a pool of the database, in which the letters are tracked.
async fn letters(server: &Postgres, database: &str) -> PgPool {
    let options: PgConnectOptions = server.url(server.port).parse().expect("a URL of Postgres");
    let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(options.database(database));
    aside_cache::migrator().run(&pool).await.expect("migrations");
    let sql = "create table letters (id bigint primary key, text text not null);
        select cache_track('letters', tags => array['letter:{id}'])";
    run(&pool, sql).await;
    pool
}

#[tokio::test]
async fn replicated_changes_show() {
    let folder = Temporary::folder("replication");
    let mut server = Postgres::start(&folder).await;
    let source = letters(&server, "aside").await;
    run(&source, "create database copy").await;
    run(&source, "alter system set wal_level = logical").await;
    source.close().await;
    server.restart(false).await;
    let source: PgConnectOptions = server.url(server.port).parse().expect("a URL of Postgres");
    let source = PgPoolOptions::new().max_connections(4).connect_lazy_with(source);
    let copy = letters(&server, "copy").await;
    run(&source, "insert into letters values (1, 'old'), (2, 'old')").await;

    let cache = Cache::start(CacheConfig::default(), copy.clone());
    shows(&cache, 1, None).await;
    run(&source, "create publication letters for table letters").await;
    run(&source, "select pg_create_logical_replication_slot('letters', 'pgoutput')").await;
    // Both databases are on one server, so the subscription can't create its own slot.
    let subscribe = format!(
        "create subscription letters connection 'host=127.0.0.1 port={} user=aside dbname=aside'
         publication letters with (create_slot = false, slot_name = 'letters')",
        server.port
    );
    run(&copy, &subscribe).await;
    shows(&cache, 1, Some("old")).await;
    shows(&cache, 2, Some("old")).await;
    run(&source, "update letters set text = 'new' where id = 1").await;
    shows(&cache, 1, Some("new")).await;
    run(&source, "delete from letters where id = 2").await;
    shows(&cache, 2, None).await;
    shows(&cache, 3_000, None).await;
    // One transaction of many rows raises the wildcard, and few tags before it.
    run(&source, "insert into letters select n, 'many' from generate_series(2, 3000) n").await;
    shows(&cache, 3_000, Some("many")).await;
    let tags: i64 = sqlx::query_scalar(
        "select count(*) from cache_ledger where xid = (select xid from cache_ledger where tag = 'letter:*')",
    )
    .fetch_one(&copy)
    .await
    .expect("the raised tags");
    assert!((1..=1_001).contains(&tags), "{tags} tags");
    run(&source, "truncate letters").await;
    shows(&cache, 1, None).await;
    cache.shutdown().await;
    sqlx::raw_sql(AssertSqlSafe("alter subscription letters disable")).execute(&copy).await.expect("disabled");
}
