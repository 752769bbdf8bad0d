//! Changes of any size. They have more tags than a write raises one by one, than a poll brings, or
//! than an instance learns at its start. No change is lost, and the tiers are in use again at once.

use std::collections::BTreeSet;

use aside_cache::{Cache, Outcome, Tag};
use aside_testkit::{Gate, eventually};
use sqlx::{AssertSqlSafe, PgPool};

use super::bench::{Bench, key, name, over_every_backend, over_every_l2, text};

/// Raises this many unrelated tags. Then it changes the note and raises the note's tag.
async fn changes(bench: &Bench, others: u32, id: i64) {
    let many = format!("insert into cache_ledger (tag, version) select 'mass:' || n, nextval('cache_version') from generate_series(1, {others}) n
        on conflict (tag) do update set version = excluded.version, xid = pg_current_xact_id()");
    sqlx::query(AssertSqlSafe(many)).execute(&bench.pool).await.expect("raised");
    bench.sabotage(id, "new").await;
    let names = [name(id).to_string()];
    sqlx::query("select cache_raise($1)").bind(names).execute(&bench.pool).await.expect("raised");
}

/// Waits until the new text shows and the tiers serve it.
async fn shows_and_is_cached(bench: &Bench, cache: &Cache, id: i64) {
    eventually("the new text shows", || async { (text(&bench.read(cache, id).await) == Some("new")).then_some(()) })
        .await;
    eventually("it is cached", || async {
        let read = bench.read(cache, id).await;
        assert_eq!(text(&read), Some("new"));
        (read.outcome == Outcome::L1Hit).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn more_changes_than_a_poll_returns_lose_none(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "old").await;
        assert_eq!(text(&bench.read(&cache, id).await), Some("old"));
        let gate = Gate::polls(&bench.pool).await;
        changes(&bench, 10_001, id).await;
        gate.open().await;
        shows_and_is_cached(&bench, &cache, id).await;
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_starts_after_more_changes_than_it_learns_serves_nothing_from_before(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "old").await;
        let old = bench.load(id).await;
        changes(&bench, 100_001, id).await;
        // The fill leaves the old value in L2, where the started instance finds it.
        let filler = bench.cache_with(|config| config.l1_bytes = 0).await;
        filler.put_many(vec![(key(id), old)]).expect("filled");
        let started = bench.cache().await;
        assert_eq!(text(&bench.read(&started, id).await), Some("new"));
        shows_and_is_cached(&bench, &started, id).await;
    })
    .await;
}

#[sqlx::test]
async fn a_write_of_more_than_a_thousand_names_raises_their_patterns(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (writer, other) = (bench.cache().await, bench.cache().await);
        let ids: BTreeSet<i64> = (0..1_001).map(|_| bench.fresh_id()).collect();
        let (first, last) = (ids.first().copied().expect("ids"), ids.last().copied().expect("ids"));
        for (cache, id) in [(&writer, first), (&other, last)] {
            bench.write(cache, id, "old").await;
            assert_eq!(text(&bench.read(cache, id).await), Some("old"));
        }
        let mut write = writer.begin().await.expect("a write");
        sqlx::query("update notes set text = 'new'").execute(write.conn()).await.expect("changed");
        ids.iter().for_each(|id| write.invalidate(name(*id)));
        write.commit().await.expect("a commit");
        assert_eq!(text(&bench.read(&writer, first).await), Some("new"), "the writer sees it at once");
        shows_and_is_cached(&bench, &other, last).await;
        let raised: Vec<String> = sqlx::query_scalar(
            "select tag from cache_ledger where xid = (select xid from cache_ledger order by version desc limit 1)",
        )
        .fetch_all(&bench.pool)
        .await
        .expect("names");
        assert_eq!(raised, [Tag::prefix("note").to_string()]);
    })
    .await;
}
