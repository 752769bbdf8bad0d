//! Faults of L2: errors, delays and wrong data. The answers remain right, and the outcome reports
//! the fault.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aside_cache::{
    BreakerState, Cache, Clock, Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error, MemoryL2, Outcome,
};
use aside_testkit::eventually;
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::PgPool;

use super::bench::{Bench, key, text};

/// An L2 whose behaviour the test sets.
#[derive(Clone, Default)]
struct Scripted {
    mood: Arc<AtomicU8>,
    /// The number of fetches. Only fetches need the breaker's permission. A call that gives a lease
    /// back comes late, in any state of the breaker.
    fetches: Arc<AtomicUsize>,
    /// The calls that came while it was hanging, in their order, each with its token.
    unread: Arc<Mutex<Vec<(Unread, String)>>>,
    memory: MemoryL2,
}

#[derive(Clone)]
enum Unread {
    Fetch(Vec<Fetch>),
    Fill(Vec<Fill>),
}

#[derive(Clone, Copy)]
enum Mood {
    Well,
    Failing,
    Hanging,
    Garbage,
    /// Answers every key with the value of another one.
    Swapping,
    /// Answers fewer values than it was asked for.
    Short,
    /// Reports for every key that another instance loads it.
    Busy,
}

impl Scripted {
    fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::SeqCst) == mood as u8
    }

    fn note(&self, call: Unread, token: &str) {
        if self.is(Mood::Hanging) {
            self.unread.lock().expect("nobody panicked").push((call, token.to_owned()));
        }
    }

    fn unread(&self) -> Vec<(Unread, String)> {
        self.unread.lock().expect("nobody panicked").clone()
    }

    /// Works again and carries out the calls of the meantime, although no caller waits for them any
    /// more.
    async fn go_on(&self) {
        self.set(Mood::Well);
        for (call, token) in self.unread() {
            match call {
                Unread::Fetch(keys) => drop(self.memory.fetch(&keys, &token, Duration::from_secs(60)).await),
                Unread::Fill(fills) => drop(self.memory.fill(&fills, &token).await),
            }
        }
    }

    async fn suffer(&self) -> Result<u8, L2Error> {
        let mood = self.mood.load(Ordering::SeqCst);
        if mood == Mood::Failing as u8 {
            return Err(L2Error("as the test wants".into()));
        }
        if mood == Mood::Hanging as u8 {
            std::future::pending::<()>().await;
        }
        Ok(mood)
    }
}

#[async_trait]
impl L2 for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.note(Unread::Fetch(keys.to_vec()), token);
        let mood = self.suffer().await?;
        let hit = |value: Bytes| keys.iter().map(|_| Fetched::Hit { version: 7, value: value.clone() }).collect();
        match mood {
            m if m == Mood::Garbage as u8 => Ok(hit(Bytes::from_static(b"\xff\x00 garbage"))),
            m if m == Mood::Swapping as u8 => {
                let another = Fetch { key: self.memory.keys().remove(0), min_version: 0 };
                self.memory.fetch(&vec![another; keys.len()], token, lease).await
            }
            m if m == Mood::Short as u8 => Ok(Vec::new()),
            m if m == Mood::Busy as u8 => Ok(vec![Fetched::Busy(Duration::from_millis(1)); keys.len()]),
            _ => self.memory.fetch(keys, token, lease).await,
        }
    }

    async fn ping(&self) -> Result<(), L2Error> {
        self.suffer().await.map(|_| ())
    }

    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error> {
        self.note(Unread::Fill(fills.to_vec()), token);
        self.suffer().await?;
        self.memory.fill(fills, token).await
    }

    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error> {
        self.suffer().await?;
        self.memory.invalidate(keys).await
    }
}

async fn bench(pool: &PgPool) -> (Bench, Scripted) {
    let l2 = Scripted::default();
    (Bench::with_l2(pool, l2.clone()).await, l2)
}

/// Reads until the breaker opens.
async fn until_found_ill(bench: &Bench, cache: &Cache) {
    eventually("the breaker opens", || async {
        bench.read(cache, bench.fresh_id()).await;
        (cache.l2_breaker() == Some(BreakerState::Open)).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn a_failing_l2_fails_no_read_and_is_not_called_a_miss(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "one").await;
    l2.set(Mood::Failing);
    let read = bench.read(&cache, id).await;
    assert_eq!((text(&read), read.outcome), (Some("one"), Outcome::L2Error));
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L1Hit);
}

#[sqlx::test]
async fn a_hanging_l2_costs_at_most_the_deadline(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let cache = bench.cache_with(|config| config.l2_deadline = Duration::from_millis(20)).await;
    let id = bench.fresh_id();
    bench.sabotage(id, "one").await;
    l2.set(Mood::Hanging);
    let read = tokio::time::timeout(Duration::from_secs(10), bench.read(&cache, id)).await;
    assert_eq!(read.expect("an answer").outcome, Outcome::L2Error);
}

#[sqlx::test]
async fn the_breaker_opens_after_failures_skips_l2_and_probes_it(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "one").await;
    l2.set(Mood::Failing);
    until_found_ill(&bench, &cache).await;
    let fetches = l2.fetches();
    for _ in 0..20 {
        assert_eq!(bench.read(&cache, bench.fresh_id()).await.outcome, Outcome::L2Skipped);
    }
    assert_eq!(l2.fetches(), fetches, "an ill L2 is left alone");
    l2.set(Mood::Well);
    bench.advance(Duration::from_secs(2), &[&cache]).await;
    bench.read(&cache, id).await;
    eventually("L2 is used again", || async {
        bench.read(&cache, id).await;
        (cache.l2_breaker() == Some(BreakerState::Closed)).then_some(())
    })
    .await;
    let fresh = bench.fresh_id();
    bench.read(&cache, fresh).await;
    bench.in_l2(&[fresh]).await;
}

#[sqlx::test]
async fn leases_that_bring_nothing_are_not_waited_for(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let cache = bench.cache_with(|config| config.l2_deadline = Duration::ZERO).await;
    l2.set(Mood::Busy);
    // The clock of this instance does not run. A read that waits ends when the test advances the
    // clock. The others do not wait.
    for _ in 0..3 {
        let (read, cache) = (bench.fresh_id(), &cache);
        let waits = async { bench.read(cache, read).await.outcome };
        let ends = async {
            let before = l2.fetches();
            eventually("it waits", || async { (l2.fetches() > before + 2).then_some(()) }).await;
            bench.advance(Duration::from_secs(2), &[cache]).await;
        };
        assert_eq!(tokio::join!(waits, ends).0, Outcome::LoadedCold);
    }
    let asked = l2.fetches();
    assert_eq!(bench.read(&cache, bench.fresh_id()).await.outcome, Outcome::LoadedCold);
    assert_eq!(l2.fetches(), asked + 1, "it is asked once");
}

#[sqlx::test]
async fn a_probe_that_fails_opens_the_breaker_again(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let cache = bench.cache().await;
    l2.set(Mood::Failing);
    until_found_ill(&bench, &cache).await;
    bench.advance(Duration::from_secs(2), &[&cache]).await;
    let fetches = l2.fetches();
    assert_eq!(bench.read(&cache, bench.fresh_id()).await.outcome, Outcome::L2Skipped, "nobody waits for the probe");
    eventually("the probe failed", || async {
        (l2.fetches() == fetches + 1 && cache.l2_breaker() == Some(BreakerState::Open)).then_some(())
    })
    .await;
    assert_eq!(bench.read(&cache, bench.fresh_id()).await.outcome, Outcome::L2Skipped);
    assert_eq!(l2.fetches(), fetches + 1);
}

#[sqlx::test]
async fn what_a_hanging_l2_leases_late_is_given_back(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let cache = bench.cache_with(|config| config.l2_deadline = Duration::from_millis(20)).await;
    let id = bench.fresh_id();
    bench.sabotage(id, "one").await;
    l2.set(Mood::Hanging);
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L2Error);
    eventually("the lease is given back", || async { (l2.unread().len() >= 2).then_some(()) }).await;
    l2.go_on().await;
    let (Unread::Fetch(keys), _) = &l2.unread()[0] else { panic!("the fetch comes first") };
    let answer = l2.memory.fetch(keys, "another", Duration::from_secs(60)).await.expect("an answer");
    assert_eq!(answer, [Fetched::Leased], "nobody has to wait for a reader who is gone");
}

#[sqlx::test]
async fn a_damaged_entry_is_unreadable_and_the_answer_is_right(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "one").await;
    l2.set(Mood::Garbage);
    let read = bench.read(&cache, id).await;
    assert_eq!((text(&read), read.outcome), (Some("one"), Outcome::LoadedUnreadable));
    assert_eq!(cache.l2_breaker(), Some(BreakerState::Closed), "a damaged entry is no illness of L2");
}

#[sqlx::test]
async fn an_entry_under_another_key_is_unreadable(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let (cache, one, two) = (bench.cache().await, bench.fresh_id(), bench.fresh_id());
    bench.sabotage(one, "one").await;
    bench.sabotage(two, "two").await;
    bench.read(&cache, one).await;
    bench.in_l2(&[one]).await;
    l2.set(Mood::Swapping);
    let read = bench.read(&cache, two).await;
    assert_eq!((text(&read), read.outcome), (Some("two"), Outcome::LoadedUnreadable));
}

#[sqlx::test]
async fn an_l2_that_answers_too_little_shifts_no_value_to_another_key(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "one").await;
    l2.set(Mood::Short);
    assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
    assert!(cache.get_many([id, id + 1], |id| key(*id)).only_if_cached().await[1].is_none());
}

#[sqlx::test]
async fn an_l2_that_is_down_delays_neither_writes_nor_shutdown(pool: PgPool) {
    let (bench, l2) = bench(&pool).await;
    let cache = bench.cache_with(|config| config.l2_deadline = Duration::from_millis(20)).await;
    let id = bench.fresh_id();
    l2.set(Mood::Hanging);
    let work = async {
        bench.write(&cache, id, "one").await;
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
        bench.write(&cache, id, "two").await;
        assert_eq!(text(&bench.read(&cache, id).await), Some("two"));
        cache.shutdown().await;
    };
    tokio::time::timeout(Duration::from_secs(15), work).await.expect("all of it ends");
}

#[test]
fn an_adjustable_clock_runs_and_can_be_put_forward() {
    let clock = Clock::adjustable();
    let before = clock.now();
    clock.advance(Duration::from_secs(3_600));
    assert!(clock.now() - before >= Duration::from_secs(3_600));
}
