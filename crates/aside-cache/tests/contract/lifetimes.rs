//! Lifetimes. They end by the injected clock, jitter spreads them, and those of a known absence are
//! shorter.

use std::time::Duration;

use aside_cache::{Cacheable, Outcome};
use aside_testkit::{Gate, eventually};
use sqlx::PgPool;

use super::bench::{Backend, Bench, Note, key, over_every_backend, text};

#[sqlx::test]
async fn after_its_lifetime_in_l1_a_value_is_served_while_one_load_refreshes_it(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "one").await;
    bench.read(&cache, id).await;
    bench.sabotage(id, "two").await;
    bench.advance(Note::POLICY.l1_ttl, &[&cache]).await;
    let gate = Gate::table(&pool, "notes").await;
    for _ in 0..20 {
        let read = bench.read(&cache, id).await;
        assert_eq!((text(&read), read.outcome), (Some("one"), Outcome::L1Hit), "nobody waits for the refresh");
        assert!(read.ttl_ms <= 0, "{}", read.ttl_ms);
    }
    gate.open().await;
    eventually("it is refreshed", || async { (text(&bench.read(&cache, id).await) == Some("two")).then_some(()) })
        .await;
    assert_eq!(bench.loaded(), 2);
}

#[sqlx::test]
async fn an_entry_unused_for_another_lifetime_is_not_served_first(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "one").await;
    bench.read(&cache, id).await;
    bench.in_l2(&[id]).await;
    bench.advance(2 * Note::POLICY.l1_ttl, &[&cache]).await;
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L2Hit);
    bench.advance(Note::POLICY.l2_ttl, &[&cache]).await;
    let read = bench.read(&cache, id).await;
    assert_eq!((text(&read), read.outcome), (Some("one"), Outcome::LoadedExpired));
    assert_eq!(bench.loaded(), 2);
}

#[sqlx::test]
async fn a_batch_does_not_serve_what_outlived_its_lifetime(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "one").await;
    bench.read(&cache, id).await;
    bench.advance(Note::POLICY.l1_ttl, &[&cache]).await;
    assert!(cache.get(key(id)).only_if_cached().await.is_none(), "nor does a read that can't refresh it");
    assert!(cache.get_many([id], |id| key(*id)).only_if_cached().await[0].is_none());
}

#[sqlx::test]
async fn a_known_absence_lives_shorter_than_a_value(pool: PgPool) {
    // Redis has a clock of its own. Tests that inspect its keys show that their lifetimes are those
    // of the policy.
    for backend in [Backend::None, Backend::Memory] {
        let bench = Bench::new(&pool, backend).await;
        let (cache, absent, present) = (bench.cache().await, bench.fresh_id(), bench.fresh_id());
        bench.sabotage(present, "one").await;
        bench.read(&cache, absent).await;
        bench.read(&cache, present).await;
        bench.sabotage(absent, "there after all").await;
        bench.advance(Note::POLICY.negative_ttl, &[&cache]).await;
        assert_eq!(bench.read(&cache, present).await.outcome, Outcome::L1Hit);
        assert_eq!(text(&bench.read(&cache, absent).await), Some("there after all"));
    }
}

#[sqlx::test]
async fn entries_made_together_do_not_end_together(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    let mut lives = Vec::new();
    for _ in 0..40 {
        let id = bench.fresh_id();
        bench.sabotage(id, "one").await;
        lives.push(bench.read(&cache, id).await.ttl_ms);
    }
    lives.sort_unstable();
    let (shortest, longest) = (lives[0], lives[39]);
    let lifetime = Note::POLICY.l1_ttl.as_millis() as i64;
    let floor = lifetime * (100 - i64::from(Note::POLICY.jitter_percent)) / 100 - 1000;
    assert!(shortest >= floor && longest <= lifetime, "{shortest} to {longest} ms");
    assert!(longest - shortest > 200, "all between {shortest} and {longest} ms");
}

#[sqlx::test]
async fn an_answer_tells_when_the_database_was_read_and_when_it_was_last_known_to_be_current(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        let loaded = bench.read(&cache, id).await;
        assert_eq!(loaded.age, None, "it was read for this request");
        assert!(loaded.since_read < Duration::from_secs(5));
        // This test is about real time. Here alone, a test lets time pass.
        sqlx::query("select pg_sleep(1.1)").execute(&bench.pool).await.expect("time passes");
        let hit = bench.read(&cache, id).await;
        assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&hit.since_read), "{:?}", hit.since_read);
        // Polls continue meanwhile, many in a second.
        eventually("a poll has just proven it", || async {
            (bench.read(&cache, id).await.age? < Duration::from_secs(1)).then_some(())
        })
        .await;
    })
    .await;
}
