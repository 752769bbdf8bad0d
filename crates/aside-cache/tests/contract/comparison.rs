//! Values are compared when entries are loaded again. A change that raised no tag is counted, and no
//! other change is. The table of notes has no triggers, so writers outside of the service raise
//! nothing.

use std::time::Duration;

use aside_cache::{Cache, Cacheable, Tag};
use aside_testkit::{Gate, eventually};
use sqlx::PgPool;

use super::{
    bench::{Backend, Bench, Note, text},
    tracking::run,
};

/// The numbers of compared entries and of unnamed changes.
fn seen(cache: &Cache) -> (u64, u64) {
    let stats = cache.stats();
    assert_eq!(stats.values_compared, stats.patterns.values().map(|pattern| pattern.values_compared).sum::<u64>());
    (stats.patterns["note"].values_compared, stats.unnamed_changes)
}

/// Reads a note after its lifetime in L1, until it was compared this often.
async fn compared(bench: &Bench, cache: &Cache, id: i64, times: u64) {
    bench.advance(Note::POLICY.l1_ttl, &[cache]).await;
    eventually("the entry is loaded again and compared", || async {
        bench.read(cache, id).await;
        (seen(cache).0 >= times).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn a_change_that_raised_no_tag_is_counted_when_its_entry_is_loaded_again(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.write(&cache, id, "old").await;
    bench.read(&cache, id).await;
    compared(&bench, &cache, id, 1).await;
    assert_eq!(seen(&cache), (1, 0), "nothing has changed");
    bench.sabotage(id, "new").await;
    compared(&bench, &cache, id, 2).await;
    eventually("it is counted", || async { (seen(&cache).1 == 1).then_some(()) }).await;
    assert_eq!(text(&bench.read(&cache, id).await), Some("new"), "the entry was replaced");
    bench.write(&cache, id, "named").await;
    bench.read(&cache, id).await;
    compared(&bench, &cache, id, 3).await;
    assert_eq!(seen(&cache).1, 1);
}

/// A wildcard does not show in the versions of an entry. The poll of the ledger shows it, and it
/// comes after the load.
#[sqlx::test]
async fn a_change_that_raised_a_wildcard_was_named(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.write(&cache, id, "old").await;
    for (number, raised, unnamed) in [(1, "cache_raise(array['note:*'])", 0), (2, "1", 1)] {
        bench.read(&cache, id).await;
        bench.clock.advance(Note::POLICY.l1_ttl);
        eventually("the ledger is followed", || async { cache.is_current().then_some(()) }).await;
        let gate = Gate::polls(&pool).await;
        gate.until_waiting(1).await;
        run(&pool, &format!("update notes set text = 'new {number}'; select {raised}")).await;
        eventually("the entry is loaded again and compared", || async {
            bench.read(&cache, id).await;
            (seen(&cache).0 == number).then_some(())
        })
        .await;
        assert_eq!(seen(&cache).1, 0, "the ledger was not polled since");
        gate.open().await;
        // A later change is known, so the floors include the wildcard too. Without this, the next
        // round could begin with an entry that the wildcard is about to refuse.
        let later = Tag::new("later", number);
        run(&pool, &format!("select cache_raise(array['{later}'])")).await;
        eventually("the ledger was polled", || async { cache.inspect(&later).floor }).await;
        eventually("the comparison ends", || async { (seen(&cache).1 == unnamed).then_some(()) }).await;
    }
}

/// L2 answers each time that the lifetime in L1 ends, so nothing would be loaded for a minute.
#[sqlx::test]
async fn a_value_that_only_l2_answers_is_loaded_as_a_sample(pool: PgPool) {
    for (pause, unnamed) in [(Some(Duration::from_secs(1)), 1), (None, 0)] {
        let bench = Bench::new(&pool, Backend::Memory).await;
        let cache = bench.cache_with(|config| config.sampled_loads = pause).await;
        let id = bench.fresh_id();
        bench.write(&cache, id, "old").await;
        bench.read(&cache, id).await;
        drop(bench.in_l2(&[id]).await);
        bench.sabotage(id, "new").await;
        let before = bench.loaded();
        for _ in 0..3 {
            bench.advance(Note::POLICY.l1_ttl, &[&cache]).await;
            eventually("the entry is refreshed", || async { (bench.read(&cache, id).await.ttl_ms > 0).then_some(()) })
                .await;
        }
        let found = || async { (seen(&cache).1 >= unnamed).then_some(()) };
        eventually("the change is counted", found).await;
        // Until its lifetime ends, L2 brings the former value back, and another sample may find it.
        assert!(pause.is_some() || seen(&cache).1 == 0, "nothing was loaded");
        assert_eq!(bench.loaded() > before, pause.is_some(), "only samples are loaded");
    }
}
