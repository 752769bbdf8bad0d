//! Single flight: many callers share one load. The tests also show the effect on callers when the
//! load or one caller fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aside_cache::{CacheMode, Loaded, Outcome};
use aside_testkit::{Gate, PATIENCE, eventually, together};
use sqlx::PgPool;

use super::bench::{Backend, Bench, Door, Note, NoteError, counted, key, over_every_backend, text};

type Loading = Result<Loaded<Note>, NoteError>;

#[sqlx::test]
async fn five_hundred_callers_cause_one_load(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        let note = key(id);
        bench.sabotage(id, "one").await;
        let readers = together((0..500).map(|_| {
            let (this, door) = (bench.clone(), door.clone());
            cache.get_or_load(&note, CacheMode::Default, move || async move {
                let loaded = this.load(id).await;
                door.pass().await;
                Loading::Ok(loaded)
            })
        }));
        let opener = async {
            door.until_somebody_waits().await;
            door.open();
        };
        let (reads, ()) = tokio::join!(readers, opener);
        assert_eq!(bench.loaded(), 1);
        let outcomes: Vec<_> = reads.into_iter().map(|read| read.expect("loaded").outcome).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::LoadedCold).count(), 1);
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Collapsed).count(), 499);
    })
    .await;
}

#[sqlx::test]
async fn a_caller_that_goes_away_neither_cancels_nor_repeats_the_load(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        bench.sabotage(id, "one").await;
        let (reader, this, inner) = (cache.clone(), bench.clone(), door.clone());
        let caller = tokio::spawn(async move {
            let load = move || async move {
                inner.pass().await;
                Loading::Ok(this.load(id).await)
            };
            reader.get_or_load(&key(id), CacheMode::Default, load).await.map(|_| ())
        });
        door.until_somebody_waits().await;
        caller.abort();
        assert!(caller.await.is_err_and(|end| end.is_cancelled()));
        door.open();
        eventually("the load fills L1 all the same", || async { cache.get(key(id)).only_if_cached().await }).await;
        assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L1Hit);
        assert_eq!(bench.loaded(), 1);
    })
    .await;
}

#[sqlx::test]
async fn a_load_that_never_ends_is_given_up_and_the_next_one_begins(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let cache = bench.cache_with(|config| config.load_limit = Duration::from_millis(50)).await;
    let id = bench.fresh_id();
    let endless = key(id);
    let read = cache.get_or_load(&endless, CacheMode::Default, std::future::pending::<Loading>);
    let ended = tokio::time::timeout(PATIENCE, read).await.expect("it is given up");
    assert_eq!(ended.err(), Some(NoteError::Aborted));
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::LoadedCold);
}

#[sqlx::test]
async fn a_failing_load_tells_everyone_who_waited_and_is_not_cached(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        let note = key(id);
        bench.sabotage(id, "one").await;
        let calls = Arc::new(AtomicUsize::new(0));
        let readers = together((0..20).map(|_| {
            let (door, calls) = (door.clone(), calls.clone());
            cache.get_or_load(&note, CacheMode::Default, move || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                door.pass().await;
                Loading::Err(NoteError::Refused)
            })
        }));
        let opener = async {
            door.until_somebody_waits().await;
            door.open();
        };
        let (reads, ()) = tokio::join!(readers, opener);
        assert!(reads.into_iter().all(|read| read.err() == Some(NoteError::Refused)));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"), "the next reader loads anew");
        assert_eq!(counted(&cache, Outcome::Failed), 20);
    })
    .await;
}

#[sqlx::test]
async fn a_panicking_load_wakes_everyone_who_waited(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        let note = key(id);
        bench.sabotage(id, "one").await;
        let readers = together((0..20).map(|_| {
            let door = door.clone();
            cache.get_or_load(&note, CacheMode::Default, move || async move {
                door.pass().await;
                panic_in_loader()
            })
        }));
        let opener = async {
            door.until_somebody_waits().await;
            door.open();
        };
        let (reads, ()) = tokio::join!(readers, opener);
        assert!(reads.into_iter().all(|read| read.err() == Some(NoteError::Aborted)));
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"));
    })
    .await;
}

#[sqlx::test]
async fn a_reader_that_starts_after_an_invalidation_does_not_take_the_old_load(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        bench.write(&cache, id, "old").await;
        let (this, inner) = (bench.clone(), door.clone());
        let note = key(id);
        let early = cache.get_or_load(&note, CacheMode::Default, move || async move {
            let loaded = this.load(id).await;
            inner.pass().await;
            Loading::Ok(loaded)
        });
        let late = async {
            door.until_somebody_waits().await;
            bench.write(&cache, id, "new").await;
            let reader = bench.read(&cache, id);
            let opener = async {
                tokio::task::yield_now().await;
                door.open();
            };
            tokio::join!(reader, opener).0
        };
        let (_, late) = tokio::join!(early, late);
        assert_eq!(text(&late), Some("new"));
        assert_eq!(text(&bench.read(&cache, id).await), Some("new"));
    })
    .await;
}

#[sqlx::test]
async fn loads_of_different_keys_do_not_wait_for_each_other(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, slow, quick, door) = (bench.cache().await, bench.fresh_id(), bench.fresh_id(), Door::closed());
        let (this, inner) = (bench.clone(), door.clone());
        let note = key(slow);
        let held = cache.get_or_load(&note, CacheMode::Default, move || async move {
            inner.pass().await;
            Loading::Ok(this.load(slow).await)
        });
        let other = async {
            door.until_somebody_waits().await;
            bench.read(&cache, quick).await;
            door.open();
        };
        let (read, ()) = tokio::join!(held, other);
        read.expect("loaded");
    })
    .await;
}

#[sqlx::test]
async fn callers_share_loads_also_while_the_tiers_may_not_be_used(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let cache = bench.cache_with(|config| config.max_staleness = Duration::from_millis(500)).await;
        let id = bench.fresh_id();
        bench.sabotage(id, "one").await;
        // The polls of the ledger wait, because a slow database needs protection most.
        let gate = Gate::table(&bench.pool, "cache_epochs").await;
        eventually("the floors are not current any more", || async { (!cache.is_current()).then_some(()) }).await;
        let reads = together((0..200).map(|_| bench.read(&cache, id))).await;
        assert!(reads.iter().all(|read| text(read) == Some("one")));
        // Some callers come after the first load has ended. Without sharing, each caller would
        // cause a load.
        assert!(bench.loaded() <= 20, "200 callers caused {} loads", bench.loaded());
        gate.open().await;
    })
    .await;
}

fn panic_in_loader() -> Loading {
    panic!("a loader that panics, as this test wants");
}
