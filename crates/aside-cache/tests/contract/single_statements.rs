//! Writes of one statement (`Cache::write_one`).

use aside_cache::{Cache, ConnectionPool, Outcome, Tag};
use aside_testkit::together;
use futures_util::FutureExt;
use sqlx::{PgPool, Postgres, postgres::PgArguments, postgres::PgPoolOptions, query::QueryAs};

use super::bench::{Backend, Bench, name, over_every_backend, text};

type Change = QueryAs<'static, Postgres, (String,), PgArguments>;

fn change(id: i64, text: &'static str) -> Change {
    sqlx::query_as("update notes set text = $2 where id = $1 and text <> $2 returning text;").bind(id).bind(text)
}

async fn version(pool: &PgPool, tag: &Tag) -> i64 {
    let sql = "select coalesce((select version from cache_ledger where tag = $1), 0)";
    sqlx::query_scalar(sql).bind(tag.as_str()).fetch_one(pool).await.expect("a version")
}

#[sqlx::test]
async fn the_change_is_seen_at_once_and_its_versions_rise_with_it(pool: PgPool) {
    over_every_backend(pool.clone(), async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "one").await;
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
        let list = Tag::new("note-list", ());
        let before = [version(&pool, &name(id)).await, version(&pool, &list).await];
        let written = cache.write_one(change(id, "two"), [list.clone(), name(id)]).await.expect("written");
        assert_eq!(written, Some(("two".to_owned(),)));
        let after = [version(&pool, &name(id)).await, version(&pool, &list).await];
        assert!(before < after && before[1] < after[1], "{before:?} {after:?}");
        let read = bench.read(&cache, id).await;
        assert_eq!((text(&read), read.outcome.is_load()), (Some("two"), true));
        assert_eq!(read.entry.tag_versions[0].version, after[0]);
    })
    .await;
}

#[sqlx::test]
async fn floors_rise_to_the_versions_of_their_own_tags(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache_with(|config| config.poll = std::time::Duration::from_secs(40)).await;
    let id = bench.fresh_id();
    bench.write(&cache, id, "one").await;
    // Their order by the database's collation differs from the order of their bytes.
    let tags = ["note:b", "note:A", "note:a", "note:B", "note-x:1"].map(Tag::from_ledger);
    cache.write_one(change(id, "two"), tags.clone()).await.expect("written").expect("changed");
    for tag in tags {
        assert_eq!(cache.inspect(&tag).floor, Some(version(&pool, &tag).await), "{tag}");
    }
}

#[sqlx::test]
async fn what_changes_nothing_raises_nothing_and_is_not_newer_than_later_reads(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let ahead = bench.cache().await;
    let behind = bench.cache_with(|config| config.poll = std::time::Duration::from_secs(40)).await;
    let id = bench.fresh_id();
    bench.write(&ahead, id, "one").await;
    bench.write(&behind, id + 1, "other").await;
    assert_eq!(text(&bench.read(&behind, id).await), Some("one"));
    ahead.write_one(change(id, "two"), [name(id)]).await.expect("written").expect("changed");
    let before = version(&pool, &name(id)).await;
    // This instance has not heard of the change, and still says "one".
    assert_eq!(text(&bench.read(&behind, id).await), Some("one"));
    assert_eq!(behind.write_one(change(id, "two"), [name(id)]).await.expect("answered"), None);
    assert_eq!(version(&pool, &name(id)).await, before);
    assert_eq!(text(&bench.read(&behind, id).await), Some("two"), "its answer said that the text was two");
}

#[sqlx::test]
async fn a_statement_that_fails_changes_and_raises_nothing(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.write(&cache, id, "one").await;
    let before = version(&pool, &name(id)).await;
    let fails: Change = sqlx::query_as("update notes set text = null where id = $1 returning text").bind(id);
    assert!(cache.write_one(fails, [name(id)]).await.is_err());
    assert_eq!(version(&pool, &name(id)).await, before);
    let read = bench.read(&cache, id).await;
    assert_eq!(text(&read), Some("one"));
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L1Hit, "nothing was invalidated");
}

#[sqlx::test]
async fn the_triggers_are_quiet_for_this_statement_only(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    sqlx::query("select cache_track('notes', tags => array['note:{id}', 'told:{id}'])")
        .execute(&pool)
        .await
        .expect("tracked");
    let connection = (*pool.connect_options()).clone();
    let only = ConnectionPool::new("Postgres", PgPoolOptions::new().max_connections(1), connection);
    let cache = Cache::start(bench.config(), only.clone());
    let id = bench.fresh_id();
    bench.write(&cache, id, "one").await;
    let told = Tag::new("told", id);
    cache.write_one(change(id, "two"), [name(id)]).await.expect("written").expect("changed");
    assert_eq!(version(&pool, &told).await, 0, "the write names its tags itself");
    sqlx::query("update notes set text = 'three'").execute(&only).await.expect("another writer on the same connection");
    assert!(version(&pool, &told).await > 0);
    cache.shutdown().await;
    only.close().await;
}

#[sqlx::test]
async fn writers_of_one_row_wait_for_each_other_at_every_default_level(pool: PgPool) {
    for level in ["read committed", "repeatable read", "serializable"] {
        let by_default = format!(
            "do $$ begin execute format('alter database %I set default_transaction_isolation = %L', current_database(), '{level}'); end $$"
        );
        sqlx::query(sqlx::AssertSqlSafe(by_default)).execute(&pool).await.expect("another default");
        let bench = Bench::new(&pool, Backend::None).await;
        let connection = (*pool.connect_options()).clone();
        let later = ConnectionPool::new("Postgres", PgPoolOptions::new().max_connections(6), connection);
        let cache = Cache::start(bench.config(), later.clone());
        let id = bench.fresh_id();
        bench.write(&cache, id, "").await;
        let writers = (0..12).map(|_| {
            let append: Change =
                sqlx::query_as("update notes set text = text || 'x' where id = $1 returning text").bind(id);
            let write = cache.write_one(append, [name(id)]);
            async move { write.await.expect("written").expect("changed") }
        });
        let texts = together(writers).await;
        let longest = texts.iter().map(|(text,)| text.len()).max();
        assert_eq!(longest, Some(12), "{level}");
        cache.shutdown().await;
        later.close().await;
    }
}

#[sqlx::test]
async fn a_write_whose_caller_is_dropped_ends_and_is_seen(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache_with(|config| config.poll = std::time::Duration::from_secs(40)).await;
    let id = bench.fresh_id();
    bench.write(&cache, id, "one").await;
    assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
    let write = std::future::IntoFuture::into_future(cache.write_one(change(id, "two"), [name(id)]));
    assert!(write.now_or_never().is_none(), "it has begun");
    let seen = || async { (text(&bench.read(&cache, id).await) == Some("two")).then_some(()) };
    aside_testkit::eventually("the write is seen", seen).await;
}

#[sqlx::test]
async fn more_tags_than_a_write_may_name_become_their_patterns(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.write(&cache, id, "one").await;
    assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
    let tags = (0..1001).map(move |other| name(id + other));
    cache.write_one(change(id, "two"), tags).await.expect("written").expect("changed");
    assert!(version(&pool, &Tag::prefix("note")).await > 0);
    assert_eq!(text(&bench.read(&cache, id).await), Some("two"));
}

#[sqlx::test]
async fn a_change_whose_connection_is_cut_is_not_made_twice(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    sqlx::query("create sequence executions").execute(&pool).await.expect("a sequence, which no rollback sets back");
    let connection = (*pool.connect_options()).clone();
    let db = ConnectionPool::new("Postgres", PgPoolOptions::new().max_connections(6), connection);
    let cache = Cache::start(bench.config(), db.clone());
    let id = bench.fresh_id();
    bench.write(&cache, id, "one").await;
    let sql = "update notes set text = 'two' where id = $1 and nextval('executions') > 0
        returning text, pg_terminate_backend(pg_backend_pid())";
    let cut = sqlx::query_as::<_, (String, bool)>(sql).bind(id);
    assert!(cache.write_one(cut, [name(id)]).await.is_err());
    let executions: i64 =
        sqlx::query_scalar("select last_value from executions").fetch_one(&pool).await.expect("a count");
    assert_eq!(executions, 1);
    cache.shutdown().await;
    db.close().await;
}
