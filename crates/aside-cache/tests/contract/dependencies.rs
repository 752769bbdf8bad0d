//! The dependency check, over the types of the examples and over tables that are hard to track. The
//! examples have no triggers, so only their own writes are checked.

use std::future::Future;

use aside_cache::{Cache, CacheConfig, CacheMode, Cacheable, Cached, Error, Key, Policy, Tag};
use aside_testkit::dependencies::{Answer, DependencyCheck, Report};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};

use super::{
    bench::{Backend, Bench},
    examples::{
        cache_aside,
        tags::{self, cities},
    },
    tracking::run,
};

/// The answer of a read that used no tier.
fn answer<T: Cacheable>(read: Result<Cached<T>, Error>) -> Answer {
    match read {
        Ok(read) => Answer::new(&read.entry.body, read.entry.tag_versions.iter().map(|version| &version.tag)),
        Err(error) => Answer::failed(error),
    }
}

/// Adds a read. The cache of the check has no tier.
fn read<T, F, Fut>(check: &mut DependencyCheck, name: &'static str, read: F)
where
    T: Cacheable,
    F: Fn(Cache) -> Fut + 'static,
    Fut: Future<Output = Result<Cached<T>, Error>> + 'static,
{
    let cache = Cache::start(CacheConfig { l1_bytes: 0, ..CacheConfig::default() }, check.pool());
    check.load(name, move || {
        let reading = read(cache.clone());
        async move { answer(reading.await) }
    });
}

#[sqlx::test]
async fn writes_of_the_examples_invalidate_every_answer_that_they_make_wrong(pool: PgPool) {
    let cache = Bench::new(&pool, Backend::None).await.cache().await;
    run(&pool, "create table rivers (id bigint primary key, name text not null)").await;
    cities::prepare(&pool, &cache).await.expect("a table");
    let mut check = DependencyCheck::new(&pool);
    check.only(&[]);
    read(&mut check, "river", |cache| async move { cache_aside::read(&cache, 1).await });
    read(&mut check, "example-city", |cache| async move {
        let read = cache.get_many([1], cities::key).rows("id", cities::select).await?;
        Ok(read.into_iter().next().expect("an answer").1)
    });
    read(&mut check, "example-cities", |cache| async move { tags::list(&cache, "DE").await });
    for name in ["Rhine", "Rhein"] {
        let cache = cache.clone();
        check.write(format!("a river is named {name}"), async move {
            cache_aside::write(&cache, 1, name).await.expect("written");
        });
    }
    for (id, name, country) in
        [(1, "Bonn", "DE"), (2, "Lyon", "FR"), (1, "Bonna", "DE"), (1, "Bonna", "FR"), (2, "Lyon", "DE")]
    {
        let cache = cache.clone();
        check.write(format!("{name} is written in {country}"), async move {
            cities::write(&cache, id, name, country).await.expect("written");
        });
    }
    check.run().await.assert_complete();
}

/// A value of one column.
#[derive(Debug, Serialize, Deserialize, FromRow)]
struct Text {
    text: String,
}

impl Cacheable for Text {
    const POLICY: Policy = Policy::public("log", std::time::Duration::from_mins(1));
}

/// A check of one select with these tags.
fn of_select(pool: &PgPool, sql: &'static str, depends_on: &'static [&'static str]) -> DependencyCheck {
    let mut check = DependencyCheck::new(pool);
    read(&mut check, "log", move |cache| async move {
        let get = cache.get(Key::<Text>::new(1)).mode(CacheMode::NoStore);
        let get = depends_on.iter().fold(get, |get, tag| get.depends_on(Tag::from_ledger(tag)));
        get.one(sqlx::query_as(sql)).await
    });
    check
}

fn messages(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{} in {}\n", finding.change, finding.load)).collect()
}

const LOGS: &str =
    "create table logs (id int, month int, text text not null, primary key (id, month)) partition by list (month);
    create table logs_1 partition of logs for values in (1);
    create table logs_2 partition of logs for values in (2);
    insert into logs values (1, 1, 'a'), (2, 2, 'b');
    select cache_track('logs', tags => array['log:{id}'])";

#[sqlx::test]
async fn partitions_and_replication_are_checked_too(pool: PgPool) {
    run(&pool, LOGS).await;
    let select = "select text from logs where id = 1";
    of_select(&pool, select, &[]).run().await.assert_complete();
    for (omission, found) in [
        ("drop trigger invalidates_updated on logs_1", "logs_1.text in log"),
        ("drop trigger invalidates_deleted on logs", "logs: a row goes in log"),
        ("drop trigger invalidates_inserted on logs_1", "logs_1: a row comes in log"),
        ("drop trigger invalidates_truncated on logs_1", "logs_1: truncated in log"),
        ("drop trigger invalidates_replicated on logs", "logs.text (replicated) in log"),
        ("alter table logs disable trigger invalidates_updated", "logs.text in log"),
        ("select cache_track('logs', tags => array['log:{id}'], ignore => array['text'])", "logs.text in log"),
    ] {
        run(&pool, omission).await;
        let report = of_select(&pool, select, &[]).run().await;
        assert!(messages(&report).contains(found), "{omission}: {}", messages(&report));
        run(&pool, "select cache_track('logs', tags => array['log:{id}'])").await;
    }
    of_select(&pool, select, &[]).run().await.assert_complete();
}

/// A check that can't fail proves nothing, so it says what it did not see.
#[sqlx::test]
async fn a_load_without_rows_and_an_exception_without_need_are_reported(pool: PgPool) {
    run(&pool, LOGS).await;
    let mut check = of_select(&pool, "select text from logs where id = 7", &[]);
    check.may_differ("log", "logs.text", "no reason");
    let report = check.run().await;
    assert_eq!(messages(&report), "none in log\nlogs.text in log\n", "{report}");
}

#[sqlx::test]
async fn an_answer_that_contains_a_time_is_reported(pool: PgPool) {
    run(&pool, LOGS).await;
    let report = of_select(&pool, "select text || now() as text from logs where id = 1", &[]).run().await;
    assert!(messages(&report).starts_with("nothing in log"), "{report}");
}

/// The row of another table is part of the answer, and the answer does not depend on it.
#[sqlx::test]
async fn a_table_without_a_declaration_is_reported(pool: PgPool) {
    run(&pool, LOGS).await;
    run(&pool, "create table words (id int primary key, word text); insert into words values (1, 'x')").await;
    let sql = "select text || (select word from words) as text from logs where id = 1";
    let report = of_select(&pool, sql, &[]).run().await;
    assert!(messages(&report).contains("words.word in log"), "{report}");
    assert!(report.to_string().contains("no cache_track('words'"), "{report}");
    run(&pool, "select cache_track('words', tags => array['word:{id}'])").await;
    assert!(!of_select(&pool, sql, &[]).run().await.findings.is_empty(), "the answer still lacks the tag");
    of_select(&pool, sql, &["word:1"]).run().await.assert_complete();
}
