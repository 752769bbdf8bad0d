//! Reads of many keys at once. One call of L2 fetches the keys that L1 lacks, and one call of the
//! loader those that both lack.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aside_cache::{Cache, CacheMode, Cached, Loaded, Outcome};
use sqlx::PgPool;

use super::bench::{Backend, Bench, Note, NoteError, key, over_every_backend, over_every_l2, text};

type Asked = Arc<Mutex<Vec<Vec<i64>>>>;

async fn read_many(
    bench: &Bench,
    cache: &Cache,
    ids: &[i64],
    mode: CacheMode,
) -> (Vec<(i64, Cached<Note>)>, Vec<Vec<i64>>) {
    let (this, asked) = (bench.clone(), Asked::default());
    let note_ids = asked.clone();
    let keys = ids.iter().map(|id| (*id, key(*id))).collect();
    let load = move |ids: Vec<i64>| async move {
        note_ids.lock().expect("not poisoned").push(ids.clone());
        Ok::<_, NoteError>(this.load_many(ids).await)
    };
    let read = cache.get_or_load_many(keys, mode, load).await.expect("the loader does not fail");
    let asked = asked.lock().expect("not poisoned").clone();
    (read, asked)
}

#[sqlx::test]
async fn one_call_of_the_loader_brings_all_that_missed(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = bench.cache().await;
        let ids: Vec<i64> = (0..5).map(|_| bench.fresh_id()).collect();
        for id in &ids[..4] {
            bench.sabotage(*id, &format!("note {id}")).await;
        }
        bench.read(&cache, ids[1]).await;
        let order = [ids[3], ids[1], ids[4], ids[0]];
        let (read, asked) = read_many(&bench, &cache, &order, CacheMode::Default).await;
        assert_eq!(asked, [vec![ids[3], ids[4], ids[0]]]);
        assert_eq!(read.iter().map(|(id, _)| *id).collect::<Vec<_>>(), order, "in the order asked");
        let outcomes: Vec<_> = read.iter().map(|(_, read)| read.outcome).collect();
        assert_eq!(outcomes, [Outcome::LoadedCold, Outcome::L1Hit, Outcome::LoadedCold, Outcome::LoadedCold]);
        assert_eq!(text(&read[0].1), Some(format!("note {}", ids[3]).as_str()));
        assert_eq!(text(&read[2].1), None, "an absence is an answer");
        let (_, asked) = read_many(&bench, &cache, &order, CacheMode::Default).await;
        assert_eq!(asked, [] as [Vec<i64>; 0], "nothing is missing any more");
    })
    .await;
}

#[sqlx::test]
async fn another_instance_takes_the_batch_from_l2(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        let cache = bench.cache().await;
        let ids: Vec<i64> = (0..3).map(|_| bench.fresh_id()).collect();
        for id in &ids {
            bench.sabotage(*id, "note").await;
        }
        read_many(&bench, &cache, &ids, CacheMode::Default).await;
        let other = bench.in_l2(&ids).await;
        let (read, asked) = read_many(&bench, &other, &ids, CacheMode::Default).await;
        assert_eq!(asked, [] as [Vec<i64>; 0]);
        assert!(read.iter().all(|(_, read)| read.outcome == Outcome::L2Hit));
        let got = other.get_many(ids, |id| key(*id)).only_if_cached().await;
        assert!(got.iter().all(|read| read.as_ref().is_some_and(|read| read.outcome == Outcome::L1Hit)));
    })
    .await;
}

#[sqlx::test]
async fn get_many_never_loads_and_keeps_the_order(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = bench.cache().await;
        let (known, unknown) = (bench.fresh_id(), bench.fresh_id());
        bench.sabotage(known, "one").await;
        bench.read(&cache, known).await;
        let got = cache.get_many([unknown, known], |id| key(*id)).only_if_cached().await;
        assert!(got[0].is_none());
        assert_eq!(got[1].as_ref().and_then(|read| text(read)), Some("one"));
        assert!(cache.get_many([], |id| key(*id)).only_if_cached().await.is_empty());
        assert_eq!(bench.loaded(), 1);
    })
    .await;
}

#[sqlx::test]
async fn put_many_fills_both_tiers(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = bench.cache().await;
        let ids = [bench.fresh_id(), bench.fresh_id()];
        for id in ids {
            bench.sabotage(id, "warm").await;
        }
        let loaded = bench.load_many(ids.to_vec()).await;
        cache.put_many(loaded.into_iter().map(|(id, loaded)| (key(id), loaded)).collect()).expect("filled");
        assert_eq!(bench.read(&cache, ids[0]).await.outcome, Outcome::L1Hit);
        if bench.backend != Backend::None {
            let other = bench.in_l2(&ids).await;
            assert_eq!(bench.read(&other, ids[1]).await.outcome, Outcome::L2Hit);
        }
    })
    .await;
}

#[sqlx::test]
async fn a_batch_obeys_refresh_and_no_store(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        let (read, _) = read_many(&bench, &cache, &[id], CacheMode::NoStore).await;
        assert_eq!(read[0].1.outcome, Outcome::Bypass);
        assert!(cache.get(key(id)).only_if_cached().await.is_none());
        read_many(&bench, &cache, &[id], CacheMode::Default).await;
        bench.sabotage(id, "two").await;
        let (read, asked) = read_many(&bench, &cache, &[id], CacheMode::Reload).await;
        assert_eq!((text(&read[0].1), asked.len()), (Some("two"), 1));
        assert_eq!(text(&bench.read(&cache, id).await), Some("two"));
    })
    .await;
}

#[sqlx::test]
async fn a_batch_shows_what_was_changed_before_it_began(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = bench.cache().await;
        let ids = [bench.fresh_id(), bench.fresh_id()];
        bench.sabotage(ids[0], "old").await;
        bench.sabotage(ids[1], "other").await;
        read_many(&bench, &cache, &ids, CacheMode::Default).await;
        bench.write(&cache, ids[0], "new").await;
        let (read, asked) = read_many(&bench, &cache, &ids, CacheMode::Default).await;
        assert_eq!((text(&read[0].1), text(&read[1].1)), (Some("new"), Some("other")));
        assert_eq!(asked, [vec![ids[0]]], "only what changed is read again");
    })
    .await;
}

#[sqlx::test]
async fn a_batch_whose_loader_fails_panics_or_forgets_an_id_is_an_error_and_leaves_nothing(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        let keys = || vec![(id, key(id))];
        type Batch = Result<HashMap<i64, Loaded<Note>>, NoteError>;
        let refused =
            cache.get_or_load_many(keys(), CacheMode::Default, |_| async { Batch::Err(NoteError::Refused) }).await;
        assert_eq!(refused.err(), Some(NoteError::Refused));
        let forgotten =
            cache.get_or_load_many(keys(), CacheMode::Default, |_| async { Batch::Ok(HashMap::new()) }).await;
        assert_eq!(forgotten.err(), Some(NoteError::Aborted));
        let panicked = cache.get_or_load_many(keys(), CacheMode::Default, |_| async { panic_in_loader() }).await;
        assert_eq!(panicked.err(), Some(NoteError::Aborted));
        assert!(cache.get(key(id)).only_if_cached().await.is_none());
        bench.sabotage(id, "one").await;
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
    })
    .await;
}

fn panic_in_loader() -> Result<HashMap<i64, Loaded<Note>>, NoteError> {
    panic!("a loader that panics, as this test wants");
}
