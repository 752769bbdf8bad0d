//! Waiting for a permit, and batches. One load holds the only permit and other loads wait behind
//! it. The tests check the statements that these become.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aside_cache::{
    Cache, CacheConfig, CacheMode, Cacheable, Cached, Concurrency, Key, LoadFailure, Loaded, Loader, Outcome, Policy,
    Sensitivity, Tenant,
};
use aside_testkit::{eventually, together};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::task::JoinHandle;

use super::bench::{Backend, Bench, Door, Note, NoteError, key, over_every_backend, text};

/// The loader of notes, as a service has it. It records the calls of its two loads.
#[derive(Clone)]
struct Notes {
    cache: Cache,
    loader: Loader<i64, Note, NoteError>,
    calls: Arc<Mutex<Vec<Vec<i64>>>>,
}

/// The fault of a load.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Error,
    Panic,
    /// This id cannot be read. The load of many leaves it out, and the load of one is an error.
    Unreadable(i64),
}

/// A cache with one permit for loads.
async fn cache(bench: &Bench, change: impl FnOnce(&mut CacheConfig)) -> Cache {
    let one = Concurrency { loads: 1, writes: 1, total: 2 };
    bench
        .cache_with(|config| {
            config.concurrency = Some(one);
            change(config);
        })
        .await
}

fn notes(bench: &Bench, cache: &Cache, fault: Fault) -> Notes {
    let calls: Arc<Mutex<Vec<Vec<i64>>>> = Arc::default();
    let load = {
        let (bench, calls) = (bench.clone(), Arc::clone(&calls));
        move |ids: Vec<i64>| {
            let (bench, calls) = (bench.clone(), Arc::clone(&calls));
            async move {
                calls.lock().expect("nobody panicked").push(ids.clone());
                match fault {
                    Fault::Error => return Err(NoteError::Refused),
                    Fault::Panic => panic!("a loader that panics, as this test wants"),
                    Fault::Unreadable(id) if ids == [id] => return Err(NoteError::Refused),
                    _ => {}
                }
                let mut found = bench.load_many(ids).await;
                found.retain(|id, _| fault != Fault::Unreadable(*id));
                Ok(found)
            }
        }
    };
    let many = load.clone();
    let one = move |_, id| {
        let load = load(vec![id]);
        async move { Ok(load.await?.remove(&id).expect("an answer for the id")) }
    };
    Notes { cache: cache.clone(), loader: cache.loader(|id| key(*id), one, move |_, ids| many(ids)), calls }
}

impl Notes {
    /// Returns the sorted ids of each call so far.
    fn calls(&self) -> Vec<Vec<i64>> {
        let mut calls = self.calls.lock().expect("nobody panicked").clone();
        calls.iter_mut().for_each(|ids| ids.sort_unstable());
        calls
    }

    /// Begins to read each of these ids.
    async fn begin(&self, ids: &[i64]) -> Vec<JoinHandle<Result<Cached<Note>, NoteError>>> {
        let before = waiting(&self.cache);
        let reads = ids.iter().map(|id| {
            let (loader, id) = (self.loader.clone(), *id);
            tokio::spawn(async move { loader.get(id, CacheMode::Default).await })
        });
        let reads: Vec<_> = reads.collect();
        until_waiting(&self.cache, before + ids.len()).await;
        reads
    }
}

fn waiting(cache: &Cache) -> usize {
    cache.stats().patterns["note"].loads_waiting
}

async fn until_waiting(cache: &Cache, loads: usize) {
    eventually("loads wait for their turn", || async { (waiting(cache) == loads).then_some(()) }).await;
}

/// Takes the only permit for a load that lasts until the door opens.
async fn hold(bench: &Bench, cache: &Cache) -> (Door, JoinHandle<()>) {
    let (door, id) = (Door::closed(), bench.fresh_id());
    let (inner, this, cache) = (door.clone(), bench.clone(), cache.clone());
    let holder = tokio::spawn(async move {
        let load = move || async move {
            inner.pass().await;
            Ok::<_, NoteError>(this.load(id).await)
        };
        cache.get_or_load(&key(id), CacheMode::Default, load).await.expect("loaded");
    });
    door.until_somebody_waits().await;
    (door, holder)
}

async fn ended<T>(reads: Vec<JoinHandle<T>>) -> Vec<T> {
    together(reads).await.into_iter().map(|read| read.expect("nobody panicked")).collect()
}

async fn fresh_notes(bench: &Bench, count: usize) -> Vec<i64> {
    let mut ids: Vec<i64> = Vec::new();
    for _ in 0..count {
        let id = bench.fresh_id();
        bench.sabotage(id, &format!("note {id}")).await;
        ids.push(id);
    }
    ids
}

#[sqlx::test]
async fn loads_that_wait_travel_together_and_each_fills_its_own_key(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = cache(&bench, |_| {}).await;
        let notes = notes(&bench, &cache, Fault::None);
        let ids = fresh_notes(&bench, 50).await;
        let (door, holder) = hold(&bench, &cache).await;
        let reads = notes.begin(&ids).await;
        door.open();
        for (id, read) in ids.iter().zip(ended(reads).await) {
            let read = read.expect("loaded");
            assert_eq!((text(&read), read.outcome), (Some(format!("note {id}").as_str()), Outcome::LoadedCold));
        }
        assert_eq!(notes.calls(), std::slice::from_ref(&ids));
        holder.await.expect("it ended");
        let again = notes.loader.get_many(ids.clone(), CacheMode::Default).await.expect("held");
        assert!(again.iter().all(|(_, read)| read.outcome == Outcome::L1Hit), "each is kept under its own key");
        if bench.backend != Backend::None {
            bench.in_l2(&ids).await;
        }
    })
    .await;
}

#[sqlx::test]
async fn a_load_that_finds_a_permit_begins_at_once_and_alone(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |_| {}).await;
    let notes = notes(&bench, &cache, Fault::None);
    let ids = fresh_notes(&bench, 3).await;
    for id in &ids {
        notes.loader.get(*id, CacheMode::Default).await.expect("loaded");
    }
    assert_eq!(notes.calls(), ids.iter().map(|id| vec![*id]).collect::<Vec<_>>());
}

#[sqlx::test]
async fn a_statement_brings_a_hundred_at_most(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |_| {}).await;
    let notes = notes(&bench, &cache, Fault::None);
    let ids = fresh_notes(&bench, 250).await;
    let (door, _holder) = hold(&bench, &cache).await;
    let reads = notes.begin(&ids).await;
    door.open();
    assert!(ended(reads).await.iter().all(Result::is_ok));
    assert_eq!(notes.calls().iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
}

#[sqlx::test]
async fn a_batch_that_waits_takes_those_along_that_come_later(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |_| {}).await;
    let notes = notes(&bench, &cache, Fault::None);
    let ids = fresh_notes(&bench, 8).await;
    let (door, _holder) = hold(&bench, &cache).await;
    let reads = notes.begin(&ids[..3]).await;
    let (loader, rest) = (notes.loader.clone(), ids[3..].to_vec());
    let batch = tokio::spawn(async move { loader.get_many(rest, CacheMode::Default).await });
    eventually("it has joined", || async { (waiting(&cache) > 3).then_some(()) }).await;
    door.open();
    assert!(ended(reads).await.iter().all(Result::is_ok));
    let batch = batch.await.expect("it ended").expect("loaded");
    assert_eq!(batch.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[3..]);
    assert_eq!(notes.calls(), [ids]);
}

#[sqlx::test]
async fn a_statement_that_fails_fails_its_members_and_nothing_is_stored(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |_| {}).await;
    for (fault, expected) in [(Fault::Error, NoteError::Refused), (Fault::Panic, NoteError::Aborted)] {
        let notes = notes(&bench, &cache, fault);
        let ids = fresh_notes(&bench, 5).await;
        let (door, _holder) = hold(&bench, &cache).await;
        let reads = notes.begin(&ids).await;
        door.open();
        let failed = ended(reads).await.into_iter().map(|read| read.err());
        assert_eq!(failed.collect::<Vec<_>>(), vec![Some(expected); 5]);
        assert_eq!(text(&bench.read(&cache, ids[0]).await), Some(format!("note {}", ids[0]).as_str()), "loaded anew");
    }
}

#[sqlx::test]
async fn a_value_that_can_not_be_read_fails_alone(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |_| {}).await;
    let ids = fresh_notes(&bench, 5).await;
    let notes = notes(&bench, &cache, Fault::Unreadable(ids[2]));
    let (door, _holder) = hold(&bench, &cache).await;
    let reads = notes.begin(&ids).await;
    door.open();
    let failed: Vec<_> = ended(reads).await.into_iter().map(|read| read.err()).collect();
    assert_eq!(failed, [None, None, Some(NoteError::Refused), None, None]);
    assert_eq!(notes.calls(), [ids.clone(), vec![ids[2]]], "it was asked for alone, and says what is wrong with it");
}

#[sqlx::test]
async fn what_was_written_while_a_load_waited_is_in_its_answer(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = cache(&bench, |_| {}).await;
        let notes = notes(&bench, &cache, Fault::None);
        let ids = fresh_notes(&bench, 3).await;
        let (door, _holder) = hold(&bench, &cache).await;
        let reads = notes.begin(&ids).await;
        bench.write(&cache, ids[1], "new").await;
        door.open();
        let reads = ended(reads).await;
        assert_eq!(text(reads[1].as_ref().expect("loaded")), Some("new"));
        let again = notes.loader.get(ids[1], CacheMode::Default).await.expect("held");
        assert_eq!(
            (text(&again), again.outcome),
            (Some("new"), Outcome::L1Hit),
            "its versions are those of the statement"
        );
    })
    .await;
}

#[sqlx::test]
async fn a_load_whose_caller_left_fills_all_the_same(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |_| {}).await;
    let notes = notes(&bench, &cache, Fault::None);
    let ids = fresh_notes(&bench, 4).await;
    let (door, _holder) = hold(&bench, &cache).await;
    let reads = notes.begin(&ids).await;
    for read in &reads {
        read.abort();
    }
    for read in reads {
        assert!(read.await.is_err_and(|end| end.is_cancelled()));
    }
    door.open();
    for id in &ids {
        eventually("it fills L1", || async { cache.get(key(*id)).only_if_cached().await }).await;
    }
    assert_eq!(notes.calls(), [ids]);
}

#[sqlx::test]
async fn a_caller_that_joins_a_load_without_time_left_has_its_own(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |config| {
        config.request_limit = Duration::from_secs(60);
        // Otherwise the database seems down after the clock is advanced, until the next poll of the
        // ledger.
        config.max_staleness = Duration::from_secs(600);
    })
    .await;
    let notes = notes(&bench, &cache, Fault::None);
    let ids = fresh_notes(&bench, 1).await;
    let (door, _holder) = hold(&bench, &cache).await;
    let early = notes.begin(&ids).await;
    bench.advance(Duration::from_secs(50), &[&cache]).await;
    let loader = notes.loader.clone();
    let id = ids[0];
    let mut late = Box::pin(async move { loader.get(id, CacheMode::Default).await });
    assert!(futures_util::poll!(&mut late).is_pending(), "it joins");
    bench.advance(Duration::from_secs(20), &[&cache]).await;
    door.open();
    assert_eq!(ended(early).await.remove(0).err(), Some(NoteError::Aborted), "its time was over");
    assert_eq!(text(&late.await.expect("it had time left")), Some(format!("note {id}").as_str()));
}

#[sqlx::test]
async fn a_load_that_waited_for_too_long_is_refused(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |config| config.request_limit = Duration::from_millis(200)).await;
    let notes = notes(&bench, &cache, Fault::None);
    let ids = fresh_notes(&bench, 2).await;
    let (door, _holder) = hold(&bench, &cache).await;
    let reads = together(ids.iter().map(|id| notes.loader.get(*id, CacheMode::Default))).await;
    assert!(reads.iter().all(|read| read.as_ref().err() == Some(&NoteError::Aborted)));
    let note = key(ids[0]);
    let closure = cache.get_or_load(&note, CacheMode::NoStore, std::future::pending::<Result<Loaded<Note>, NoteError>>);
    assert_eq!(closure.await.err(), Some(NoteError::Aborted), "one without a loader too");
    assert_eq!(notes.calls(), [] as [Vec<i64>; 0], "nothing was asked of the database for them");
    door.open();
}

/// A note of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Secret(String);

impl Cacheable for Secret {
    const POLICY: Policy = Policy { name: "secret", sensitivity: Sensitivity::Personal, ..Note::POLICY };
}

#[sqlx::test]
async fn loads_of_different_tenants_never_travel_together(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = cache(&bench, |config| config.policies.push(Secret::POLICY)).await;
    let calls: Arc<Mutex<Vec<BTreeSet<Tenant>>>> = Arc::default();
    let noted = Arc::clone(&calls);
    let this = bench.clone();
    let load = move |ids: Vec<(Tenant, i64)>| {
        noted.lock().expect("nobody panicked").push(ids.iter().map(|(tenant, _)| tenant.clone()).collect());
        let this = this.clone();
        async move {
            let mut found = HashMap::new();
            for (tenant, id) in ids {
                let Loaded { tag_versions, loaded_at, .. } = this.load(id).await;
                found.insert(
                    (tenant.clone(), id),
                    Loaded { value: Some(Secret(tenant.to_string())), tag_versions, loaded_at, valid_until: None },
                );
            }
            Ok::<_, NoteError>(found)
        }
    };
    let many = load.clone();
    let one = move |_, id: (Tenant, i64)| {
        let load = load(vec![id.clone()]);
        async move { load.await?.remove(&id).ok_or_else(|| LoadFailure::Panicked.into()) }
    };
    let loader = cache.loader(|(tenant, id)| Key::<Secret>::of_tenant(tenant, id), one, move |_, ids| many(ids));
    let tenants = ["acme", "beta"].map(|name| Tenant::parse(name).expect("a tenant"));
    for tenant in &tenants {
        cache.ensure_tenant_loaded(tenant).await;
    }
    let (door, _holder) = hold(&bench, &cache).await;
    let reads = (0..20).map(|id| {
        let (loader, tenant) = (loader.clone(), tenants[id % 2].clone());
        tokio::spawn(async move { (tenant.clone(), loader.get((tenant, id as i64), CacheMode::Default).await) })
    });
    let reads: Vec<_> = reads.collect();
    eventually("all wait", || async { (cache.stats().patterns["secret"].loads_waiting == 20).then_some(()) }).await;
    door.open();
    for (tenant, read) in ended(reads).await {
        assert_eq!(read.expect("loaded").entry.value, Some(Secret(tenant.to_string())));
    }
    let calls = calls.lock().expect("nobody panicked").clone();
    assert_eq!(calls.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1], "one statement for each tenant");
}
