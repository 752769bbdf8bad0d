//! Answers that say until when they are right. The end is a moment of the database's clock, which no
//! test moves, so these answers end after a second or two.

use std::time::Duration;

use aside_cache::{Cache, CacheMode, Cached, DbTime, Key, Loaded, Outcome};
use aside_cache::{Cacheable, Policy, Tag};
use aside_testkit::eventually;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};

use super::{
    bench::{Bench, Note, NoteError, key, over_every_backend, text},
    tracking::run,
};

/// Reads a note that is right until `end`.
async fn read(bench: &Bench, cache: &Cache, id: i64, end: DbTime) -> Cached<Note> {
    let this = bench.clone();
    let load = move || async move { Ok::<_, NoteError>(Loaded { valid_until: Some(end), ..this.load(id).await }) };
    cache.get_or_load(&key(id), CacheMode::Default, load).await.expect("the loader does not fail")
}

async fn now(pool: &PgPool) -> DbTime {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await.expect("the time")
}

#[sqlx::test]
async fn no_tier_serves_an_answer_after_its_end(pool: PgPool) {
    over_every_backend(pool, async |bench| {
        let (one, two) = (bench.cache().await, bench.cache().await);
        let id = bench.fresh_id();
        bench.write(&one, id, "until the end").await;
        let end = now(&bench.pool).await.after(Duration::from_secs(2));
        assert!(read(&bench, &one, id, end).await.outcome.is_load());
        let hit = read(&bench, &one, id, end).await;
        assert!(hit.outcome == Outcome::L1Hit && text(&hit) == Some("until the end"), "{hit:?}");
        let left = hit.valid_for.expect("it has an end");
        assert!(left <= Duration::from_secs(2) && hit.ttl_ms <= 2_000, "{hit:?}");
        if bench.l2.is_some() {
            eventually("L2 is filled", || async { two.get(key(id)).only_if_cached().await }).await;
        }
        eventually("the end comes", || async { (now(&bench.pool).await >= end).then_some(()) }).await;
        for cache in [&one, &two, &bench.cache().await] {
            assert!(cache.get(key(id)).only_if_cached().await.is_none());
            // The load says again that the answer has ended, so it is stored nowhere.
            for _ in 0..2 {
                let ended = read(&bench, cache, id, end).await;
                assert!(ended.outcome.is_load() && ended.valid_for == Some(Duration::ZERO), "{ended:?}");
            }
        }
        // An answer without an end is stored again.
        bench.read(&one, id).await;
        assert_eq!(bench.read(&one, id).await.outcome, Outcome::L1Hit);
    })
    .await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
struct Price {
    cents: i64,
}

impl Cacheable for Price {
    const POLICY: Policy = Policy::public("price", Duration::from_hours(1));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Prices(Vec<Price>);

impl From<Vec<Price>> for Prices {
    fn from(prices: Vec<Price>) -> Self {
        Self(prices)
    }
}

impl Cacheable for Prices {
    const POLICY: Policy = Policy::public("price-list", Duration::from_hours(1));
}

/// The price of tonight ends, and the one of tomorrow begins.
#[sqlx::test]
async fn a_select_names_the_column_with_the_end(pool: PgPool) {
    let bench = Bench::new(&pool, super::bench::Backend::Memory).await;
    let cache = bench.cache().await;
    let sql = "create table prices (cents bigint, starts_at timestamptz, ends_at timestamptz);
        insert into prices select 100, now(), now() + interval '2 s' union all select 80, now() + interval '2 s', null";
    run(&pool, sql).await;
    let sql = "select cents, ends_at from prices where now() >= starts_at and (ends_at is null or now() < ends_at)";
    let one = async || {
        let get = cache.get(Key::<Price>::new(1)).valid_until("ends_at");
        get.one(sqlx::query_as(sql)).await.expect("a price")
    };
    let list = async || {
        let get = cache.get(Key::<Prices>::new(1)).depends_on(Tag::new("price-list", 1)).valid_until("ends_at");
        get.list(sqlx::query_as::<_, Price>(sql)).await.expect("prices")
    };
    let (first, prices) = (one().await, list().await);
    assert_eq!(
        (&first.entry.value, &prices.entry.value),
        (&Some(Price { cents: 100 }), &Some(Prices(vec![Price { cents: 100 }])))
    );
    assert_eq!((one().await.outcome, list().await.outcome), (Outcome::L1Hit, Outcome::L1Hit));
    let end = first.entry.valid_until.expect("an end");
    assert_eq!(prices.entry.valid_until, Some(end));
    eventually("the end comes", || async { (now(&pool).await >= end).then_some(()) }).await;
    let (next, prices) = (one().await, list().await);
    assert_eq!(
        (&next.entry.value, &prices.entry.value),
        (&Some(Price { cents: 80 }), &Some(Prices(vec![Price { cents: 80 }])))
    );
    assert_eq!((next.valid_for, one().await.outcome, list().await.outcome), (None, Outcome::L1Hit, Outcome::L1Hit));
}
