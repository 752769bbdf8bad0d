//! A fill never undoes a write. The tests force, by gates, every late arrival of an old value
//! against every kind of write.

use aside_cache::{Cache, CacheMode, Key, Loaded, Outcome};
use aside_testkit::eventually;
use sqlx::PgPool;

use super::bench::{Bench, Door, Note, NoteError, Notes, backends, key, over_every_backend, over_every_l2, text};

/// The writes that overtake a fill, each with the value that must be read afterwards.
#[derive(Clone, Copy, Debug)]
enum Overtaking {
    Update,
    Delete,
    DeleteAndInsert,
}

impl Overtaking {
    const ALL: [Self; 3] = [Self::Update, Self::Delete, Self::DeleteAndInsert];

    async fn write(self, bench: &Bench, cache: &Cache, id: i64) {
        match self {
            Self::Update => bench.write(cache, id, "new").await,
            Self::Delete => bench.erase(cache, id).await,
            Self::DeleteAndInsert => {
                bench.erase(cache, id).await;
                bench.write(cache, id, "new").await;
            }
        }
    }

    fn truth(self) -> Option<&'static str> {
        match self {
            Self::Update | Self::DeleteAndInsert => Some("new"),
            Self::Delete => None,
        }
    }
}

/// Reads the old value from the database, then waits at the door with it.
async fn late_fill(bench: &Bench, cache: &Cache, id: i64, door: &Door, mode: CacheMode) {
    let (this, inner) = (bench.clone(), door.clone());
    let load = move || async move {
        let loaded = this.load(id).await;
        inner.pass().await;
        Result::<Loaded<Note>, NoteError>::Ok(loaded)
    };
    cache.get_or_load(&key(id), mode, load).await.expect("loaded");
}

#[sqlx::test]
async fn a_miss_fill_never_undoes_a_write(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        for overtaking in Overtaking::ALL {
            fill_is_overtaken(&bench, overtaking, CacheMode::Default).await;
        }
    })
    .await;
}

#[sqlx::test]
async fn a_refreshing_fill_never_undoes_a_write(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        for overtaking in Overtaking::ALL {
            fill_is_overtaken(&bench, overtaking, CacheMode::Reload).await;
        }
    })
    .await;
}

async fn fill_is_overtaken(bench: &Bench, overtaking: Overtaking, mode: CacheMode) {
    let (cache, other, id, door) = (bench.cache().await, bench.cache().await, bench.fresh_id(), Door::closed());
    bench.write(&cache, id, "old").await;
    let fill = late_fill(bench, &cache, id, &door, mode);
    let write = async {
        door.until_somebody_waits().await;
        overtaking.write(bench, &cache, id).await;
        door.open();
    };
    tokio::join!(fill, write);
    for _ in 0..3 {
        assert_eq!(text(&bench.read(&cache, id).await), overtaking.truth(), "{overtaking:?} on the writer");
    }
    eventually("the other instance serves the truth", || async {
        (text(&bench.read(&other, id).await) == overtaking.truth()).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn a_warm_up_never_undoes_a_write(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        for overtaking in Overtaking::ALL {
            let (cache, id) = (bench.cache().await, bench.fresh_id());
            bench.write(&cache, id, "old").await;
            let old = bench.load(id).await;
            overtaking.write(&bench, &cache, id).await;
            cache.put_many(vec![(key(id), old)]).expect("filled");
            let read = bench.read(&cache, id).await;
            assert_eq!((text(&read), read.outcome), (overtaking.truth(), Outcome::LoadedInvalidated));
        }
    })
    .await;
}

#[sqlx::test]
async fn a_promotion_from_l2_never_undoes_a_write(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        for overtaking in Overtaking::ALL {
            let (cache, id) = (bench.cache().await, bench.fresh_id());
            bench.write(&cache, id, "old").await;
            let old = bench.load(id).await;
            overtaking.write(&bench, &cache, id).await;
            // Another instance fills L2 late. This instance has no entry in L1.
            let filler = bench.cache_with(|config| config.l1_bytes = 0).await;
            filler.put_many(vec![(key(id), old)]).expect("filled");
            filler.shutdown().await;
            let read = bench.read(&cache, id).await;
            assert_eq!((text(&read), read.outcome), (overtaking.truth(), Outcome::LoadedInvalidated), "{overtaking:?}");
            assert_eq!(text(&bench.read(&cache, id).await), overtaking.truth());
        }
    })
    .await;
}

#[sqlx::test]
async fn a_joined_load_never_undoes_a_write(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        for overtaking in Overtaking::ALL {
            let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
            bench.write(&cache, id, "old").await;
            let fill = late_fill(&bench, &cache, id, &door, CacheMode::Default);
            let joiner = async {
                door.until_somebody_waits().await;
                overtaking.write(&bench, &cache, id).await;
                let reader = bench.read(&cache, id);
                let opener = async {
                    tokio::task::yield_now().await;
                    door.open();
                };
                tokio::join!(reader, opener).0
            };
            let ((), joined) = tokio::join!(fill, joiner);
            assert_eq!(text(&joined), overtaking.truth(), "{overtaking:?}");
        }
    })
    .await;
}

#[sqlx::test]
async fn a_list_fill_never_undoes_an_insert(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, first, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        bench.write(&cache, first, "one").await;
        let (this, inner, notes) = (bench.clone(), door.clone(), Key::<Notes>::new(first));
        let load = move || async move {
            let loaded = this.load_list(first).await;
            inner.pass().await;
            Result::<Loaded<Notes>, NoteError>::Ok(loaded)
        };
        let insert = async {
            door.until_somebody_waits().await;
            bench.write(&cache, bench.fresh_id(), "two").await;
            door.open();
        };
        let (fill, ()) = tokio::join!(cache.get_or_load(&notes, CacheMode::Default, load), insert);
        fill.expect("loaded");
        let list = bench.list(&cache, first).await;
        assert_eq!(list.entry.value.as_ref().map(|notes| notes.0.len()), Some(2));
    })
    .await;
}

#[sqlx::test]
async fn an_absence_that_arrives_late_never_hides_an_insert(pool: PgPool) {
    for backend in backends() {
        let bench = Bench::new(&pool, backend).await;
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        let fill = late_fill(&bench, &cache, id, &door, CacheMode::Default);
        let insert = async {
            door.until_somebody_waits().await;
            bench.write(&cache, id, "new").await;
            door.open();
        };
        tokio::join!(fill, insert);
        assert_eq!(text(&bench.read(&cache, id).await), Some("new"));
    }
}

#[sqlx::test]
async fn what_was_read_in_one_epoch_is_not_served_in_the_next(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id, witness, door) = (bench.cache().await, bench.fresh_id(), bench.fresh_id(), Door::closed());
        bench.sabotage(id, "before").await;
        bench.sabotage(witness, "before").await;
        bench.read(&cache, witness).await;
        let fill = late_fill(&bench, &cache, id, &door, CacheMode::Default);
        let another_life = async {
            door.until_somebody_waits().await;
            bench.sabotage(id, "after").await;
            bench.sabotage(witness, "after").await;
            sqlx::query("update cache_epochs set id = gen_random_uuid()")
                .execute(&bench.pool)
                .await
                .expect("another epoch");
            eventually("the cache has noticed", || async {
                (text(&bench.read(&cache, witness).await) == Some("after")).then_some(())
            })
            .await;
            super::bench::until_current(&cache).await;
            door.open();
        };
        tokio::join!(fill, another_life);
        assert_eq!(text(&bench.read(&cache, id).await), Some("after"));
    })
    .await;
}
