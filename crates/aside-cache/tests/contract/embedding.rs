//! A service that exists already brings its own transactions, clients of Redis and probes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aside_cache::{
    Cache, CacheConfig, CacheReadiness, L2, Outcome, RedisL2, Tag,
    deadpool_redis::{Config, Pool, Runtime, redis::Client},
    invalidate_in,
};
use aside_testkit::{Proxy, RedisServer, eventually, redis_server::fresh_namespace};
use sqlx::{PgPool, Postgres, Transaction};

use super::bench::{Backend, Bench, name, over_every_backend, text};

/// Long enough that a test ends before the next poll.
const SELDOM: Duration = Duration::from_secs(10);

/// A cache that learns of nothing by polls, and a note in its L1.
async fn with_a_note_in_l1(bench: &Bench, id: i64) -> Cache {
    let cache = Cache::start(CacheConfig { poll: SELDOM, ..bench.config() }, bench.pool.clone());
    assert!(cache.wait_until_current(2 * SELDOM).await);
    bench.write(&cache, id, "one").await;
    bench.read(&cache, id).await;
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L1Hit);
    cache
}

/// Changes a note in a transaction of the service's own.
async fn change(bench: &Bench, id: i64) -> Transaction<'static, Postgres> {
    let mut transaction = bench.pool.begin().await.expect("a transaction");
    let sql = "update notes set text = 'two' where id = $1";
    sqlx::query(sql).bind(id).execute(&mut *transaction).await.expect("changed");
    transaction
}

#[sqlx::test]
async fn a_write_of_ones_own_transaction_is_read_by_the_instance_at_once(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let id = bench.fresh_id();
        let cache = with_a_note_in_l1(&bench, id).await;
        let mut transaction = change(&bench, id).await;
        let invalidated = invalidate_in(&mut transaction, [name(id), Tag::new("note-list", ())]).await.expect("raised");
        assert_eq!(text(&bench.read(&cache, id).await), Some("one"), "before the commit");
        transaction.commit().await.expect("a commit");
        cache.committed(&invalidated);
        let read = bench.read(&cache, id).await;
        assert_eq!(text(&read), Some("two"));
        assert!(invalidated.tag_versions().contains(&read.entry.tag_versions[0]), "{invalidated:?}");
    })
    .await;
}

#[sqlx::test]
async fn a_write_of_ones_own_transaction_reaches_instances_that_are_not_told(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "one").await;
        bench.read(&cache, id).await;
        let mut transaction = change(&bench, id).await;
        drop(invalidate_in(&mut transaction, [name(id)]).await.expect("raised"));
        transaction.commit().await.expect("a commit");
        eventually("the write is read", || async {
            (text(&bench.read(&cache, id).await) == Some("two")).then_some(())
        })
        .await;
    })
    .await;
}

#[sqlx::test]
async fn a_transaction_of_ones_own_that_is_rolled_back_invalidates_nothing(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let id = bench.fresh_id();
    let cache = with_a_note_in_l1(&bench, id).await;
    let before = bench.load(id).await.tag_versions;
    let mut transaction = change(&bench, id).await;
    drop(invalidate_in(&mut transaction, [name(id)]).await.expect("raised"));
    transaction.rollback().await.expect("a rollback");
    assert_eq!(bench.load(id).await.tag_versions, before);
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L1Hit);
}

#[sqlx::test]
async fn ones_own_client_or_pool_of_redis_carries_the_tier_and_its_hints(pool: PgPool) {
    let url = RedisServer::shared().url();
    let client = || Client::open(url.as_str()).expect("the URL of Redis");
    let own: Pool = Config::from_url(&url).create_pool(Some(Runtime::Tokio1)).expect("a pool");
    let tiers: [Arc<dyn L2>; 2] = [
        Arc::new(RedisL2::from_client(client()).expect("the client's address")),
        Arc::new(RedisL2::from_pool(own.clone(), client())),
    ];
    for l2 in tiers {
        let mut bench = Bench::new(&pool, Backend::Redis).await;
        bench.l2 = Some(Arc::clone(&l2));
        let (writer, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&writer, id, "one").await;
        bench.read(&writer, id).await;
        let found = bench.in_l2(&[id]).await;
        bench.sabotage(id, "not read").await;
        assert_eq!(text(&bench.read(&found, id).await), Some("one"));
        let (channel, heard) = (fresh_namespace(), Arc::new(AtomicUsize::new(0)));
        let listen = async || {
            let heard = Arc::clone(&heard);
            let count = move || _ = heard.fetch_add(1, Ordering::SeqCst);
            l2.listen(&channel, &count).await
        };
        let hint = eventually("a hint is heard", || async {
            l2.hint(&channel).await.expect("a hint is sent");
            (heard.load(Ordering::SeqCst) > 0).then_some(())
        });
        tokio::select! {
            ended = listen() => panic!("{ended:?}"),
            () = hint => {}
        }
    }
    assert_eq!(own.status().available, own.status().size, "no connection of the pool is kept");
}

#[sqlx::test]
async fn one_call_tells_whether_an_instance_should_get_requests(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Redis).await;
    let options = pool.connect_options();
    let proxy = Proxy::before(format!("{}:{}", options.get_host(), options.get_port())).await;
    let through = (*options).clone().host("127.0.0.1").port(proxy.address().port());
    let through = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect_lazy_with(through);
    let cache = Cache::start(bench.config(), through);
    assert!(cache.wait_until_current(Duration::from_secs(20)).await);
    let ready = CacheReadiness { database: true, is_current: true, l2: Some(true), l2_memory: None };
    let seen = cache.readiness().await;
    assert_eq!(CacheReadiness { l2_memory: None, ..seen }, ready);
    assert!(seen.is_ready());
    proxy.cut();
    bench.clock.advance(Duration::from_secs(61));
    let seen = cache.readiness().await;
    let down = CacheReadiness { database: false, is_current: false, ..ready };
    assert_eq!(CacheReadiness { l2_memory: None, ..seen }, down);
    assert!(!seen.is_ready() && !cache.wait_until_current(Duration::from_millis(1)).await);
    proxy.restore();
    eventually("the instance is ready again", || async { cache.readiness().await.is_ready().then_some(()) }).await;
}
