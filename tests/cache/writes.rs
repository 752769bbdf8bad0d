//! Writes: what a transaction that fails, is dropped or is raced leaves behind.

use std::task::Poll;

use aside::cache::Outcome;
use futures_util::{future::maybe_done, poll};
use sqlx::PgPool;

use super::bench::{Backend, Bench, name, over_every_backend, text};
use crate::support::together;

#[sqlx::test]
async fn a_write_that_is_dropped_changes_and_invalidates_nothing(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "one").await;
        bench.read(&cache, id).await;
        let mut write = cache.begin().await.expect("a transaction");
        sqlx::query("update notes set text = 'two' where id = $1").bind(id).execute(write.db()).await.expect("changed");
        write.touch(name(id));
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
        sqlx::query("update notes set text = 'two' where id = $1").bind(id).execute(write.db()).await.expect("changed");
        write.touch(name(id));
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
        write.commit().await.expect("a commit");
        assert_eq!(text(&bench.read(&cache, id).await), Some("two"));
    })
    .await;
}

#[sqlx::test]
async fn numbers_of_a_name_only_rise(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    let mut last = 0;
    for round in 0..5 {
        if round % 2 == 0 {
            bench.write(&cache, id, "there").await;
        } else {
            bench.erase(&cache, id).await;
        }
        let number = bench.load(id).await.labels[0].version;
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}

#[sqlx::test]
async fn writers_that_touch_the_same_names_in_any_order_never_deadlock(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    // So many names that any two writers have several in common.
    let writers = (0..100).map(|writer: i64| {
        let cache = cache.clone();
        async move {
            let mut write = cache.begin().await.expect("a transaction");
            for step in 0..20 {
                write.touch(name((writer * 7 + step * 5) % 24));
            }
            write.commit().await
        }
    });
    for committed in together(writers).await {
        committed.expect("no deadlock");
    }
}

#[sqlx::test]
async fn writes_beyond_the_room_are_refused_at_once(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    // More than the pool has connections, so most of them wait.
    let mut begun: Vec<_> = (0..128).map(|_| Box::pin(maybe_done(cache.begin()))).collect();
    for write in &mut begun {
        let _ = poll!(write);
    }
    let refused = poll!(Box::pin(cache.begin()));
    assert!(matches!(refused, Poll::Ready(Err(sqlx::Error::PoolTimedOut))), "neither begun nor waiting");
    drop(begun);
    cache.begin().await.expect("room again").commit().await.expect("a commit");
}

#[sqlx::test]
async fn a_write_that_touches_nothing_commits(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    let mut write = cache.begin().await.expect("a transaction");
    sqlx::query("insert into notes values (77, 'quiet')").execute(write.db()).await.expect("written");
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
    let failed = sqlx::query("insert into notes values ($1, null)").bind(id + 1).execute(write.db()).await;
    assert!(failed.is_err());
    write.touch(name(id));
    assert!(write.commit().await.is_err(), "an aborted transaction can't commit");
    assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
}
