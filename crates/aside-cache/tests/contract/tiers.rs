//! One key through the tiers. It is loaded once, then served from the nearest tier, with the same
//! bytes everywhere.

use aside_cache::{CacheMode, Cacheable, Key, Loaded, Outcome, Policy, Tenant};
use aside_testkit::eventually;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::bench::{Backend, Bench, Note, NoteError, counted, key, over_every_backend, over_every_l2, text};

#[sqlx::test]
async fn a_value_is_loaded_once_and_then_served_from_l1(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        let first = bench.read(&cache, id).await;
        assert_eq!((text(&first), first.outcome), (Some("one"), Outcome::LoadedCold));
        let second = bench.read(&cache, id).await;
        assert_eq!((text(&second), second.outcome), (Some("one"), Outcome::L1Hit));
        assert_eq!(bench.loaded(), 1);
    })
    .await;
}

#[sqlx::test]
async fn another_instance_finds_the_value_in_l2_byte_for_byte_and_keeps_it(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, &"long ".repeat(1_000)).await;
        let loaded = bench.read(&cache, id).await;
        let other = bench.in_l2(&[id]).await;
        let found = bench.read(&other, id).await;
        assert_eq!(found.outcome, Outcome::L2Hit);
        assert_eq!((&found.entry.body, found.entry.digest), (&loaded.entry.body, loaded.entry.digest));
        assert_eq!(
            (found.entry.loaded_at, &found.entry.tag_versions),
            (loaded.entry.loaded_at, &loaded.entry.tag_versions)
        );
        assert_eq!(bench.read(&other, id).await.outcome, Outcome::L1Hit);
        assert_eq!(bench.loaded(), 1);
    })
    .await;
}

#[sqlx::test]
async fn a_list_survives_l2_in_the_other_format(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "Ünïcödé ✓").await;
        let loaded = bench.list(&cache, id).await;
        let other = bench.cache().await;
        let found = aside_testkit::eventually("L2 is filled", || async {
            other.get(Key::<super::bench::Notes>::new(id)).only_if_cached().await
        })
        .await;
        assert_eq!((found.outcome, &found.entry.value), (Outcome::L2Hit, &loaded.entry.value));
        assert_eq!(found.entry.digest, loaded.entry.digest, "the same entity tag on every instance");
    })
    .await;
}

#[sqlx::test]
async fn without_l1_every_read_asks_l2(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let cache = bench.cache_with(|config| config.l1_bytes = 0).await;
        let id = bench.fresh_id();
        bench.sabotage(id, "one").await;
        bench.read(&cache, id).await;
        bench.in_l2(&[id]).await;
        for _ in 0..3 {
            assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L2Hit);
        }
        assert_eq!(bench.loaded(), 1);
    })
    .await;
}

#[sqlx::test]
async fn without_any_tier_every_read_loads(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache_with(|config| config.l1_bytes = 0).await;
    for loads in 1..4 {
        assert_eq!(bench.read(&cache, 1).await.outcome, Outcome::LoadedCold);
        assert_eq!(bench.loaded(), loads);
    }
}

#[sqlx::test]
async fn absence_is_an_answer_that_is_cached(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        assert_eq!(text(&bench.read(&cache, id).await), None);
        let again = bench.read(&cache, id).await;
        assert_eq!((text(&again), again.outcome, again.entry.body.len()), (None, Outcome::L1Hit, 0));
        if bench.backend != Backend::None {
            let other = bench.in_l2(&[id]).await;
            assert_eq!((text(&bench.read(&other, id).await), bench.loaded()), (None, 1));
        }
        bench.write(&cache, id, "now it exists").await;
        assert_eq!(text(&bench.read(&cache, id).await), Some("now it exists"));
    })
    .await;
}

#[sqlx::test]
async fn get_never_loads(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        assert!(cache.get(key(id)).only_if_cached().await.is_none());
        bench.read(&cache, id).await;
        assert_eq!(cache.get(key(id)).only_if_cached().await.map(|read| read.outcome), Some(Outcome::L1Hit));
        assert_eq!(bench.loaded(), 1);
        let counts = [Outcome::L1Hit, Outcome::LoadedCold, Outcome::NotCached].map(|outcome| counted(&cache, outcome));
        assert_eq!(counts, [1, 1, 1], "every read counts once");
    })
    .await;
}

#[sqlx::test]
async fn refresh_loads_and_fills_and_no_store_loads_and_leaves_no_trace(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        assert_eq!(bench.read_as(&cache, id, CacheMode::NoStore).await.outcome, Outcome::Bypass);
        assert!(cache.get(key(id)).only_if_cached().await.is_none());
        bench.read(&cache, id).await;
        bench.sabotage(id, "two").await;
        assert_eq!(text(&bench.read_as(&cache, id, CacheMode::NoStore).await), Some("two"));
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"), "the tiers were left as they were");
        let refreshed = bench.read_as(&cache, id, CacheMode::Reload).await;
        assert_eq!((text(&refreshed), refreshed.outcome), (Some("two"), Outcome::Bypass));
        let after = bench.read(&cache, id).await;
        assert_eq!((text(&after), after.outcome), (Some("two"), Outcome::L1Hit));
    })
    .await;
}

#[sqlx::test]
async fn delete_takes_a_value_out_of_every_tier(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        bench.read(&cache, id).await;
        if bench.backend != Backend::None {
            bench.in_l2(&[id]).await;
        }
        cache.delete(&key(id)).await.expect("deleted");
        assert!(cache.get(key(id)).only_if_cached().await.is_none(), "no tier may serve it from here on");
        bench.read(&cache, id).await;
        assert_eq!(bench.loaded(), 2);
    })
    .await;
}

#[sqlx::test]
async fn tenants_and_types_never_meet_in_one_key(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "everybody's").await;
    bench.read(&cache, id).await;
    let (one, two) = (Tenant::parse("one").expect("valid"), Tenant::parse("two").expect("valid"));
    assert!(cache.get(Key::<Note>::of_tenant(&one, id)).only_if_cached().await.is_none());
    let mine = bench.load(id).await;
    cache.put_many(vec![(Key::<Note>::of_tenant(&one, id), mine)]).expect("filled");
    assert!(cache.get(Key::<Note>::of_tenant(&one, id)).only_if_cached().await.is_some());
    assert!(cache.get(Key::<Note>::of_tenant(&two, id)).only_if_cached().await.is_none());
}

#[sqlx::test]
async fn l1_stays_within_its_bytes(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache_with(|config| config.l1_bytes = 64 * 1_024).await;
    for _ in 0..200 {
        let id = bench.fresh_id();
        bench.sabotage(id, &"x".repeat(1_000)).await;
        bench.read(&cache, id).await;
    }
    let l1 = cache.stats().l1;
    assert!(l1.bytes <= l1.capacity_bytes && l1.entries > 0, "{l1:?}");
}

/// A note as the next release has it, with a field that this release does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NextNote {
    id: i64,
    text: String,
    words: usize,
}

impl Cacheable for NextNote {
    const POLICY: Policy = Policy { schema_version: "2", ..Note::POLICY };
}

#[sqlx::test]
async fn two_releases_side_by_side_read_what_they_understand(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (this, next) = (bench.cache().await, bench.cache().await);
        let id = bench.fresh_id();
        let read_next = async || {
            let loader = bench.clone();
            let load = move || async move {
                let Loaded { value, tag_versions, loaded_at, .. } = loader.load(id).await;
                let value = value.map(|Note { id, text }| NextNote { id, words: text.split(' ').count(), text });
                Ok::<_, NoteError>(Loaded { value, tag_versions, loaded_at, valid_until: None })
            };
            let read = next.get_or_load(&Key::<NextNote>::new(id), CacheMode::Default, load).await;
            read.expect("the loader does not fail").entry.value.clone().expect("a note")
        };
        for text_now in ["one", "one more"] {
            // The first of the two fills L2, and the other one finds the entry there.
            bench.write(&this, id, text_now).await;
            bench.read(&this, id).await;
            eventually("the next release has heard of it", || async {
                (read_next().await.text == text_now).then_some(())
            })
            .await;
            assert_eq!(read_next().await.words, text_now.split(' ').count());
            bench.in_l2(&[id]).await;
            assert_eq!(text(&bench.read(&this, id).await), Some(text_now));
        }
        assert_eq!(counted(&this, Outcome::LoadedUnreadable) + counted(&next, Outcome::LoadedUnreadable), 0);
    })
    .await;
}
