//! Writes: the effects of a transaction that fails, is dropped or is raced.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aside_cache::{Cache, Concurrency, ConnectionPool, Outcome, Write};
use aside_testkit::together;
use futures_util::poll;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::bench::{Backend, Bench, WriteRefused, name, over_every_backend, text};

#[sqlx::test]
async fn a_write_that_is_dropped_changes_and_invalidates_nothing(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "one").await;
        bench.read(&cache, id).await;
        let mut write = cache.begin().await.expect("a transaction");
        sqlx::query("update notes set text = 'two' where id = $1")
            .bind(id)
            .execute(write.conn())
            .await
            .expect("changed");
        write.invalidate(name(id));
        drop(write);
        let read = bench.read(&cache, id).await;
        assert_eq!((text(&read), read.outcome), (Some("one"), Outcome::L1Hit));
        assert_eq!(text(&bench.read(&bench.cache().await, id).await), Some("one"));
    })
    .await;
}

#[sqlx::test]
async fn a_write_in_progress_is_not_seen(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "one").await;
        let mut write = cache.begin().await.expect("a transaction");
        sqlx::query("update notes set text = 'two' where id = $1")
            .bind(id)
            .execute(write.conn())
            .await
            .expect("changed");
        write.invalidate(name(id));
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
        write.commit().await.expect("a commit");
        assert_eq!(text(&bench.read(&cache, id).await), Some("two"));
    })
    .await;
}

#[sqlx::test]
async fn versions_of_a_tag_only_rise(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    let mut last = 0;
    for round in 0..5 {
        if round % 2 == 0 {
            bench.write(&cache, id, "there").await;
        } else {
            bench.erase(&cache, id).await;
        }
        let number = bench.load(id).await.tag_versions[0].version;
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}

#[sqlx::test]
async fn writers_that_invalidate_the_same_tags_in_any_order_never_deadlock(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    // Each writer has so many tags that any two writers have several in common.
    let writers = (0..100).map(|writer: i64| {
        let cache = cache.clone();
        async move {
            let mut write = cache.begin().await.expect("a transaction");
            for step in 0..20 {
                write.invalidate(name((writer * 7 + step * 5) % 24));
            }
            write.commit().await
        }
    });
    for committed in together(writers).await {
        committed.expect("no deadlock");
    }
}

#[sqlx::test]
async fn writes_beyond_the_permits_wait_for_their_turn(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let one = Concurrency { loads: 1, writes: 1, total: 2 };
    let cache = bench.cache_with(|config| config.concurrency = Some(one)).await;
    let held = cache.begin().await.expect("a transaction");
    let mut waiting: Vec<_> = (0..200).map(|_| Box::pin(cache.begin())).collect();
    for write in &mut waiting {
        assert!(poll!(write).is_pending(), "neither begun nor refused");
    }
    bench.read(&cache, bench.fresh_id()).await;
    held.commit().await.expect("a commit");
    for write in waiting {
        write.await.expect("its turn").commit().await.expect("a commit");
    }
}

#[sqlx::test]
async fn a_write_has_its_own_isolation_level_whatever_the_database_has_by_default(pool: PgPool) {
    let by_default = "do $$ begin
        execute format('alter database %I set default_transaction_isolation = %L', current_database(), 'repeatable read');
    end $$";
    sqlx::query(by_default).execute(&pool).await.expect("another default");
    let bench = Bench::new(&pool, Backend::None).await;
    let connection = (*pool.connect_options()).clone();
    let later = ConnectionPool::new("Postgres", PgPoolOptions::new().max_connections(1), connection);
    let cache = Cache::start(bench.config(), later.clone());
    let level = "select current_setting('transaction_isolation')";
    let other: String = sqlx::query_scalar(level).fetch_one(&later).await.expect("the default");
    let mut write = cache.begin().await.expect("a transaction");
    let own: String = sqlx::query_scalar(level).fetch_one(write.conn()).await.expect("its own");
    assert_eq!((other.as_str(), own.as_str()), ("repeatable read", "read committed"));
    write.commit().await.expect("a commit");
    cache.shutdown().await;
    later.close().await;
}

#[sqlx::test]
async fn a_write_that_invalidates_nothing_commits(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    let mut write = cache.begin().await.expect("a transaction");
    sqlx::query("insert into notes values (77, 'quiet')").execute(write.conn()).await.expect("written");
    write.commit().await.expect("a commit");
    assert_eq!(text(&bench.read(&cache, 77).await), Some("quiet"));
}

#[sqlx::test]
async fn a_failed_statement_fails_the_write_and_leaves_the_truth(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.write(&cache, id, "one").await;
    bench.read(&cache, id).await;
    let mut write = cache.begin().await.expect("a transaction");
    let failed = sqlx::query("insert into notes values ($1, null)").bind(id + 1).execute(write.conn()).await;
    assert!(failed.is_err());
    write.invalidate(name(id));
    assert!(write.commit().await.is_err(), "an aborted transaction can't commit");
    assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
}

#[sqlx::test]
async fn a_write_commits_what_returns_a_value_and_rolls_back_what_returns_an_error(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    for (number, touches, fails) in [(0, false, false), (1, true, false), (2, true, true)] {
        let (note, texts) = (id + number, ["quiet", "told", "undone"]);
        assert_eq!(text(&bench.read(&cache, note).await), None);
        let written = cache
            .write(async move |write: &mut Write| {
                let sql = "insert into notes values ($1, $2)";
                sqlx::query(sql).bind(note).bind(texts[number as usize]).execute(write.conn()).await?;
                if touches {
                    write.invalidate(name(note));
                }
                if fails { Err(WriteRefused::Taken) } else { Ok(()) }
            })
            .await;
        assert_eq!(written.is_err(), fails);
        let stored: Option<String> = sqlx::query_scalar("select text from notes where id = $1")
            .bind(note)
            .fetch_optional(&pool)
            .await
            .expect("read");
        assert_eq!(stored.as_deref(), (!fails).then_some(texts[number as usize]));
        let shown = (touches && !fails).then_some(texts[number as usize]);
        assert_eq!(text(&bench.read(&cache, note).await), shown, "what is not named is not invalidated");
    }
}

#[sqlx::test]
async fn a_write_that_lost_against_another_one_is_done_again_and_no_more_than_four_times(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    for losses in [3, 4] {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let written = cache
            .write(async move |write: &mut Write| {
                let attempt = counted.fetch_add(1, Ordering::SeqCst);
                sqlx::query("insert into notes values (501, 'once')").execute(write.conn()).await?;
                if attempt < losses {
                    let lost = "do $$ begin raise exception using errcode = 'serialization_failure'; end $$";
                    sqlx::query(lost).execute(write.conn()).await?;
                }
                Ok::<_, WriteRefused>(())
            })
            .await;
        assert_eq!((written.is_ok(), attempts.load(Ordering::SeqCst)), (losses == 3, 4));
        let sql = "with gone as (delete from notes where id = 501 returning 1) select count(*) from gone";
        let stored: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.expect("counted");
        assert_eq!(stored, i64::from(losses == 3));
    }
}
