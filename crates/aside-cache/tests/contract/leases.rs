//! The three verbs of L2 and their purpose: one load in the fleet, no fill without a lease, and
//! none older than a known change. The double and the real stores have one contract. Random
//! sequences must bring the same answers from all of them.

use std::{sync::Arc, time::Duration};

use aside_cache::{CacheMode, Fetch, Fetched, Fill, Filled, Invalidation, L2, MemcachedL2, MemoryL2, Outcome, RedisL2};
use aside_testkit::{
    MemcachedServer, RedisServer, eventually, memcached_server, redis_server::fresh_namespace, together,
};
use bytes::Bytes;
use sqlx::PgPool;

use super::bench::{Bench, Door, NoteError, key, over_every_l2, text};

const LEASE: Duration = Duration::from_secs(30);

fn fetch(key: &str) -> Fetch {
    Fetch { key: key.into(), min_version: 0 }
}

fn fill(key: &str, version: i64) -> Fill {
    let value = Some((version, Bytes::from(format!("value {version}"))));
    Fill { key: key.into(), value, lifetime: Duration::from_secs(60) }
}

async fn one<R: Clone>(answers: impl Future<Output = Result<Vec<R>, aside_cache::L2Error>>) -> R {
    answers.await.expect("L2 answers")[0].clone()
}

fn redis() -> Arc<dyn L2> {
    Arc::new(RedisL2::standalone(&RedisServer::shared().url()).expect("the URL of Redis"))
}

/// Returns Memcached, if its binary is named.
fn memcached() -> Option<Arc<dyn L2>> {
    memcached_server::binary().map(|_| Arc::new(MemcachedL2::new(MemcachedServer::shared().address())) as _)
}

/// Returns the double and the real stores, each with a namespace of its own.
fn every() -> Vec<(Arc<dyn L2>, String)> {
    let double: Arc<dyn L2> = Arc::new(MemoryL2::default());
    [double, redis()].into_iter().chain(memcached()).map(|l2| (l2, fresh_namespace())).collect()
}

#[sqlx::test]
async fn a_cold_key_is_loaded_once_in_the_fleet(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (id, door) = (bench.fresh_id(), Door::closed());
        bench.sabotage(id, "one").await;
        let instances = [bench.cache().await, bench.cache().await, bench.cache().await];
        let note = key(id);
        let readers = together(instances.iter().map(|cache| {
            let (this, door) = (bench.clone(), door.clone());
            cache.get_or_load(&note, CacheMode::Default, move || async move {
                let loaded = this.load(id).await;
                door.pass().await;
                Result::<_, NoteError>::Ok(loaded)
            })
        }));
        let opener = async {
            door.until_somebody_waits().await;
            door.open();
        };
        let (reads, ()) = tokio::join!(readers, opener);
        assert_eq!(bench.loaded(), 1);
        let mut outcomes: Vec<_> = reads.into_iter().map(|read| read.expect("loaded").outcome.as_str()).collect();
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["l2_hit", "l2_hit", "loaded_cold"]);
    })
    .await;
}

#[sqlx::test]
async fn a_load_that_fails_gives_its_lease_back(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, other, id) = (bench.cache().await, bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        let failed =
            cache.get_or_load(&key(id), CacheMode::Default, || async { Err::<_, NoteError>(NoteError::Refused) }).await;
        assert_eq!(failed.err(), Some(NoteError::Refused));
        let read =
            tokio::time::timeout(Duration::from_secs(20), bench.read(&other, id)).await.expect("nobody waits for ever");
        assert_eq!((text(&read), read.outcome), (Some("one"), Outcome::LoadedCold));
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_dies_with_a_lease_delays_the_others_briefly(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        bench.sabotage(id, "one").await;
        let (this, inner, dying) = (bench.clone(), door.clone(), cache.clone());
        let note = key(id);
        let held = tokio::spawn(async move {
            let load = move || async move {
                inner.pass().await;
                Result::<_, NoteError>::Ok(this.load(id).await)
            };
            dying.get_or_load(&note, CacheMode::Default, load).await.map(|_| ())
        });
        door.until_somebody_waits().await;
        // The lease ends by the clock of L2. The instances that wait for it give up by their own
        // clock.
        let other = bench.cache().await;
        let read = tokio::time::timeout(Duration::from_secs(20), bench.read(&other, id)).await.expect("the lease ends");
        assert_eq!(text(&read), Some("one"));
        door.open();
        held.await.expect("no panic").expect("loaded");
    })
    .await;
}

#[sqlx::test]
async fn a_batch_does_not_wait_for_a_lease(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, other, id, door) = (bench.cache().await, bench.cache().await, bench.fresh_id(), Door::closed());
        bench.sabotage(id, "one").await;
        let (this, inner) = (bench.clone(), door.clone());
        let note = key(id);
        let held = cache.get_or_load(&note, CacheMode::Default, move || async move {
            let loaded = this.load(id).await;
            inner.pass().await;
            Result::<_, NoteError>::Ok(loaded)
        });
        let batch = async {
            door.until_somebody_waits().await;
            let this = bench.clone();
            let load = move |ids: Vec<i64>| async move { Result::<_, NoteError>::Ok(this.load_many(ids).await) };
            let read = other.get_or_load_many(vec![(id, key(id))], CacheMode::Default, load).await.expect("loaded");
            assert_eq!(text(&read[0].1), Some("one"));
            door.open();
        };
        let (read, ()) = tokio::join!(held, batch);
        read.expect("loaded");
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_given_to_one_and_again_to_its_holder() {
    for (l2, key) in every() {
        assert_eq!(one(l2.fetch(&[fetch(&key)], "a", LEASE)).await, Fetched::Leased);
        assert!(matches!(one(l2.fetch(&[fetch(&key)], "b", LEASE)).await, Fetched::Busy(left) if left <= LEASE));
        assert_eq!(one(l2.fetch(&[fetch(&key)], "a", LEASE)).await, Fetched::Leased);
        assert_eq!(one(l2.fill(&[fill(&key, 5)], "b")).await, Filled::LeaseLost);
        assert_eq!(one(l2.fill(&[fill(&key, 5)], "a")).await, Filled::Kept);
        assert_eq!(one(l2.fill(&[fill(&key, 6)], "a")).await, Filled::LeaseLost, "one lease, one fill");
        let hit = Fetched::Hit { version: 5, value: "value 5".into() };
        assert_eq!(one(l2.fetch(&[fetch(&key)], "b", LEASE)).await, hit);
        let newer = Fetch { key: key.clone(), min_version: 6 };
        assert_eq!(
            one(l2.fetch(&[newer], "b", LEASE)).await,
            Fetched::Leased,
            "a value that is too old is as good as none"
        );
        let release = Fill { value: None, ..fill(&key, 0) };
        assert_eq!(one(l2.fill(&[release], "b")).await, Filled::Released);
    }
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_is_leased() {
    for (l2, key) in every() {
        for round in 0..20 {
            let (keys, tokens) = ([fetch(&format!("{key}:{round}"))], ["a", "b", "c", "d", "e", "f"]);
            let answers = together(tokens.iter().map(|token| one(l2.fetch(&keys, token, LEASE)))).await;
            let leased = answers.iter().filter(|answer| **answer == Fetched::Leased).count();
            assert_eq!(leased, 1, "{answers:?}");
        }
    }
}

#[tokio::test]
async fn a_fill_that_a_change_has_overtaken_is_refused() {
    for (l2, key) in every() {
        assert_eq!(one(l2.fetch(&[fetch(&key)], "a", LEASE)).await, Fetched::Leased);
        l2.invalidate(&[Invalidation { key: key.clone(), version: 9 }]).await.expect("L2 answers");
        assert_eq!(one(l2.fill(&[fill(&key, 8)], "a")).await, Filled::Older);
        assert_eq!(one(l2.fetch(&[fetch(&key)], "a", LEASE)).await, Fetched::Leased);
        assert_eq!(one(l2.fill(&[fill(&key, 9)], "a")).await, Filled::Kept, "what has seen the change is welcome");
        l2.invalidate(&[Invalidation { key: key.clone(), version: 10 }]).await.expect("L2 answers");
        assert_eq!(one(l2.fetch(&[fetch(&key)], "a", LEASE)).await, Fetched::Leased, "a changed value is gone");
    }
}

#[tokio::test]
async fn a_lease_ends() {
    for (l2, key) in every() {
        let short = Duration::from_millis(50);
        assert_eq!(one(l2.fetch(&[fetch(&key)], "a", short)).await, Fetched::Leased);
        eventually("the lease ends", || async {
            (one(l2.fetch(&[fetch(&key)], "b", LEASE)).await == Fetched::Leased).then_some(())
        })
        .await;
        assert_eq!(one(l2.fill(&[fill(&key, 1)], "a")).await, Filled::LeaseLost);
    }
}

#[tokio::test]
async fn a_value_lives_as_long_as_it_is_told_and_an_unused_lease_leaves_nothing() {
    let (l2, key) = (redis(), fresh_namespace());
    let mut redis = RedisServer::shared().connect().await;
    let short = Duration::from_millis(80);
    one(l2.fetch(&[fetch(&key)], "a", short)).await;
    eventually("the unused lease is gone", || {
        let (mut redis, key) = (redis.clone(), key.clone());
        async move { (ttl(&mut redis, &key).await == -2).then_some(()) }
    })
    .await;
    one(l2.fetch(&[fetch(&key)], "a", LEASE)).await;
    assert_eq!(one(l2.fill(&[Fill { lifetime: short, ..fill(&key, 1) }], "a")).await, Filled::Kept);
    let left = ttl(&mut redis, &key).await;
    // The lease may have ended by now (-2). A lease without an end would give -1.
    assert!(left == -2 || (0..=80).contains(&left), "the lease's longer lifetime must not go on: {left} ms");
}

async fn ttl(redis: &mut deadpool_redis::redis::aio::MultiplexedConnection, key: &str) -> i64 {
    deadpool_redis::redis::cmd("PTTL").arg(key).query_async(redis).await.expect("PTTL")
}

/// One step of a random sequence.
#[derive(Debug)]
enum Step {
    Fetch(usize, &'static str, i64),
    Fill(usize, &'static str, Option<i64>),
    Invalidate(usize, i64),
}

#[tokio::test]
async fn every_store_and_the_double_give_the_same_answers() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let [(memory, namespace), real @ ..] = &every()[..] else { panic!("there is the double") };
    let mut tokens = ["a", "b", "c"].into_iter().cycle();
    for number in 0..4_000 {
        let (at, version) = (random.usize(0..3), random.i64(1..12));
        let token = tokens.nth(random.usize(0..3)).expect("endless");
        let step = match random.u8(0..5) {
            0 | 1 => Step::Fetch(at, token, if random.bool() { 0 } else { version }),
            2 | 3 => Step::Fill(at, token, random.u8(0..5).gt(&0).then_some(version)),
            _ => Step::Invalidate(at, version),
        };
        // The keys change now and then, so that sequences often begin with absent keys.
        let key = |at: usize| format!("{namespace}:{}:{at}", number / 40);
        let expected = carry_out(&**memory, &step, key).await;
        for (number_of_store, (store, _)) in real.iter().enumerate() {
            let answer = carry_out(&**store, &step, key).await;
            assert_eq!(answer, expected, "store {number_of_store}, step {number}, {step:?}, seed {seed}");
        }
    }
}

async fn carry_out(l2: &dyn L2, step: &Step, key: impl Fn(usize) -> String) -> String {
    match *step {
        Step::Fetch(at, token, min_version) => {
            match one(l2.fetch(&[Fetch { key: key(at), min_version }], token, LEASE)).await {
                Fetched::Busy(_) => "busy".into(),
                answer => format!("{answer:?}"),
            }
        }
        Step::Fill(at, token, version) => {
            let filled = fill(&key(at), version.unwrap_or_default());
            let value = filled.value.clone().filter(|_| version.is_some());
            format!("{:?}", one(l2.fill(&[Fill { value, ..filled }], token)).await)
        }
        Step::Invalidate(at, version) => {
            l2.invalidate(&[Invalidation { key: key(at), version }]).await.expect("L2 answers");
            String::new()
        }
    }
}
