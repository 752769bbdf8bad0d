//! Old values are not served. The instance that wrote stops at once, and all others stop as soon as
//! they have polled the ledger.

use std::time::Duration;

use aside_cache::{Outcome, Tag};
use aside_testkit::eventually;
use sqlx::PgPool;

use super::bench::{Backend, Bench, key, name, over_every_backend, over_every_l2, text};

#[sqlx::test]
async fn the_writer_serves_the_new_value_at_once(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        for round in 0..10 {
            let text_now = format!("round {round}");
            bench.write(&cache, id, &text_now).await;
            assert_eq!(text(&bench.read(&cache, id).await), Some(text_now.as_str()));
        }
        bench.erase(&cache, id).await;
        assert_eq!(text(&bench.read(&cache, id).await), None);
    })
    .await;
}

#[sqlx::test]
async fn another_instance_serves_the_new_value_once_it_has_polled(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (writer, reader, id) = (bench.cache().await, bench.cache().await, bench.fresh_id());
        bench.write(&writer, id, "old").await;
        bench.read(&reader, id).await;
        bench.write(&writer, id, "new").await;
        eventually("the other instance serves the new value", || async {
            (text(&bench.read(&reader, id).await) == Some("new")).then_some(())
        })
        .await;
    })
    .await;
}

#[sqlx::test]
async fn a_tag_invalidates_every_list_that_carries_it_with_one_row(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, first) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, first, "one").await;
        bench.list(&cache, first).await;
        bench.list(&cache, first + 1).await;
        let second = bench.fresh_id();
        bench.write(&cache, second, "two").await;
        let both = bench.list(&cache, first).await;
        assert_eq!(both.entry.value.as_ref().map(|notes| notes.0.len()), Some(2));
        assert_ne!(bench.list(&cache, first + 1).await.outcome, Outcome::L1Hit);
        let rows: i64 = sqlx::query_scalar("select count(*) from cache_ledger where tag = 'note-list'")
            .fetch_one(&bench.pool)
            .await
            .expect("the ledger");
        assert_eq!(rows, 1);
    })
    .await;
}

#[sqlx::test]
async fn invalidating_a_name_by_hand_reaches_every_instance(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (one, two, id) = (bench.cache().await, bench.cache().await, bench.fresh_id());
        bench.write(&one, id, "old").await;
        bench.read(&one, id).await;
        bench.read(&two, id).await;
        bench.sabotage(id, "new").await;
        one.invalidate([name(id)]).await.expect("invalidated");
        assert_eq!(text(&bench.read(&one, id).await), Some("new"));
        eventually("the other instance loads too", || async {
            (text(&bench.read(&two, id).await) == Some("new")).then_some(())
        })
        .await;
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_does_not_hear_from_the_ledger_stops_using_its_tiers(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = bench.cache_with(|config| config.max_staleness = Duration::from_millis(500)).await;
        let id = bench.fresh_id();
        bench.sabotage(id, "one").await;
        bench.read(&cache, id).await;
        // The gate locks the table that is polled, so the polls wait while time passes.
        let gate = aside_testkit::Gate::table(&bench.pool, "cache_epochs").await;
        eventually("the floors are not current any more", || async { (!cache.is_current()).then_some(()) }).await;
        let read = bench.read(&cache, id).await;
        assert_eq!((text(&read), read.outcome), (Some("one"), Outcome::LoadedNotCurrent));
        assert!(cache.get(key(id)).only_if_cached().await.is_none(), "not even a peek");
        gate.open().await;
        super::bench::until_current(&cache).await;
        eventually("the tiers are used again", || async {
            (bench.read(&cache, id).await.outcome == Outcome::L1Hit).then_some(())
        })
        .await;
    })
    .await;
}

#[sqlx::test]
async fn a_database_made_anew_makes_everything_cached_before_unreachable(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "before").await;
        let before = bench.load_by_a_clock_ahead(id).await;
        cache.put_many(vec![(key(id), before)]).expect("filled");
        if bench.backend != Backend::None {
            bench.in_l2(&[id]).await;
        }
        bench.sabotage(id, "after").await;
        sqlx::query("update cache_epochs set id = gen_random_uuid()")
            .execute(&bench.pool)
            .await
            .expect("another epoch");
        eventually("the old epoch's entries are gone", || async {
            (text(&bench.read(&cache, id).await) == Some("after")).then_some(())
        })
        .await;
        let other = bench.cache().await;
        assert_eq!(text(&bench.read(&other, id).await), Some("after"));
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_starts_knows_what_was_changed_before(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "old").await;
        let old = bench.load(id).await;
        bench.write(&cache, id, "new").await;
        // L2 has lost its entries and gets the old value back before the new instance starts.
        let filler = bench.cache().await;
        filler.put_many(vec![(key(id), old)]).expect("filled");
        filler.shutdown().await;
        let started = bench.cache().await;
        assert_eq!(text(&bench.read(&started, id).await), Some("new"));
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_starts_refuses_what_is_older_than_all_it_can_know(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "old").await;
        let old = bench.load(id).await;
        bench.write(&cache, id, "new").await;
        // The only checkpoint left is a snapshot from after the change. It does not tell which tags
        // changed before.
        let forget =
            "with gone as (delete from cache_checkpoints) insert into cache_checkpoints (snap) select pg_current_snapshot()";
        sqlx::query(forget).execute(&bench.pool).await.expect("one snapshot is left");
        let filler = bench.cache().await;
        filler.put_many(vec![(key(id), old)]).expect("filled");
        filler.shutdown().await;
        let started = bench.cache().await;
        assert_eq!(text(&bench.read(&started, id).await), Some("new"));
    })
    .await;
}

#[sqlx::test]
async fn a_change_of_one_name_leaves_others_cached(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let (cache, changed, other) = (bench.cache().await, bench.fresh_id(), bench.fresh_id());
    bench.read(&cache, changed).await;
    bench.read(&cache, other).await;
    cache.invalidate([name(changed), Tag::new("nobody", 1)]).await.expect("invalidated");
    assert_eq!(bench.read(&cache, other).await.outcome, Outcome::L1Hit);
    assert_ne!(bench.read(&cache, changed).await.outcome, Outcome::L1Hit);
}

#[sqlx::test]
async fn a_ledger_that_was_restored_in_place_makes_everything_cached_before_unreachable(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "later than the dump").await;
        bench.read(&cache, id).await;
        // A restore does this. It refills the table and sets the versions and the sequence back.
        for sql in [
            "create table dump as select tag, 1 as version, xid from cache_ledger",
            "truncate cache_ledger",
            "insert into cache_ledger select * from dump",
            "select setval('cache_version', 1)",
            "drop table dump",
        ] {
            let mut connection = bench.pool.acquire().await.expect("a connection");
            sqlx::query(sql).execute(&mut *connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        bench.sabotage(id, "as in the dump").await;
        eventually("what the database holds is shown", || async {
            (text(&bench.read(&cache, id).await) == Some("as in the dump")).then_some(())
        })
        .await;
        let other = bench.cache().await;
        assert_eq!(text(&bench.read(&other, id).await), Some("as in the dump"));
    })
    .await;
}
