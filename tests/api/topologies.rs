//! Redis behind Sentinels, and as a Cluster. A failover under load causes no failed and no stale
//! answer, and Redis is used again afterwards.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use deadpool_redis::redis;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{
    TestApp, eventually, product,
    redis_keys::RedisKeys,
    redis_nodes::{DEAD_SOON, Kind, RedisNodes},
    settings::L2_DEADLINE,
    together,
};

/// The number of products. It is so high that every node of a Cluster has some of them.
const PRODUCTS: usize = 16;
/// The failure timeout for tests without a failover. On a busy machine no node is silent for so
/// long.
const DEAD_LATE: Duration = Duration::from_secs(15);

#[sqlx::test]
async fn a_primary_behind_sentinels_dies_under_load(pool: PgPool) {
    fails_over(pool, Kind::Sentinel, Fall::Killed).await;
}

#[sqlx::test]
async fn a_primary_behind_sentinels_freezes_and_comes_back_believing(pool: PgPool) {
    fails_over(pool, Kind::Sentinel, Fall::Frozen).await;
}

#[sqlx::test]
async fn a_primary_of_a_cluster_dies_under_load(pool: PgPool) {
    fails_over(pool, Kind::Cluster, Fall::Killed).await;
}

#[sqlx::test]
async fn a_primary_of_a_cluster_freezes_and_comes_back_believing(pool: PgPool) {
    fails_over(pool, Kind::Cluster, Fall::Frozen).await;
}

/// A promoted replica lacks every command that it had not received, including deletes. Old entries
/// come back.
#[sqlx::test]
async fn an_entry_that_a_promoted_replica_missed_is_not_served(pool: PgPool) {
    let nodes = RedisNodes::for_test(Kind::Sentinel, DEAD_SOON).await;
    let app = TestApp::builder(pool).instances(2).redis(&nodes).l1_bytes(0).build().await;
    let ids = products(&app).await;
    l2_holds(&app, &ids, None).await;
    // From here on, a Redis without connected replicas acknowledges the writes.
    let primary = eventually("there is a primary", || nodes.primary_of("any")).await;
    let replicas: Vec<usize> = (0..3).filter(|node| *node != primary).collect();
    replicas.iter().for_each(|replica| nodes.signal(*replica, "STOP"));
    let parted = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica").to_owned();
    assert_eq!(nodes.ask::<i64>(primary, &parted).await, Some(2));
    for id in &ids {
        app.patch_product(*id, json!({ "price_cents": 2 })).await.expect(200);
    }
    let held = async |node: usize| {
        let connection = nodes.nodes[node].connect().await.expect("a connection");
        let mut keys = RedisKeys::new(&app.namespace, connection);
        let mut held = 0;
        for id in &ids {
            held += usize::from(keys.holds(&format!("product:{id}")).await);
        }
        held
    };
    eventually("what the writes made old has gone from the primary", || async {
        (held(primary).await == 0).then_some(())
    })
    .await;
    nodes.signal(primary, "KILL");
    replicas.iter().for_each(|replica| nodes.signal(*replica, "CONT"));
    let promoted =
        eventually("a replica is promoted", || async { nodes.primary_of("any").await.filter(|node| *node != primary) });
    assert_eq!(held(promoted.await).await, PRODUCTS, "deletes were lost");
    for round in 0..20 {
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(app.instance((at + round) % 2).get_product(*id).await.int("/price_cents"), 2);
        }
    }
    l2_holds(&app, &ids, Some(2)).await;
}

#[sqlx::test]
async fn slots_that_move_to_and_fro_under_load_change_no_answer(pool: PgPool) {
    let nodes = RedisNodes::for_test(Kind::Cluster, DEAD_LATE).await;
    let app = TestApp::builder(pool).instances(2).redis(&nodes).l1_bytes(0).build().await;
    let ids = products(&app).await;
    l2_holds(&app, &ids, None).await;
    let nemesis = async |done: &AtomicUsize| {
        for (turn, id) in ids.iter().cycle().take(2 * PRODUCTS).enumerate() {
            let (key, from) = key_of(&nodes, &app, *id).await;
            let mut others = eventually("there are primaries", || nodes.primaries()).await;
            others.retain(|node| *node != from);
            nodes.move_slot(&key, from, others[turn % others.len()]).await;
            reach(done, 20).await;
        }
    };
    under_load(&app, &ids, nemesis).await;
    l2_holds(&app, &ids, None).await;
    assert_eq!(app.metrics().await.sum("cache_l2_breaker_open", &[]), 0.0);
}

#[sqlx::test]
async fn the_memory_of_every_primary_is_watched(pool: PgPool) {
    for (kind, primaries) in [(Kind::Sentinel, 1), (Kind::Cluster, 3)] {
        let nodes = RedisNodes::for_test(kind, DEAD_LATE).await;
        let app = TestApp::builder(pool.clone()).redis(&nodes).build().await;
        eventually("the memory is known", || async {
            let metrics = app.metrics().await;
            let used = |node: String| metrics.sum("cache_memory_used_bytes", &[("tier", "l2"), ("node", &node)]);
            let known = nodes.nodes.iter().filter(|node| used(format!("127.0.0.1:{}", node.port)) > 0.0);
            (known.count() == primaries).then_some(())
        })
        .await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fall {
    Killed,
    Frozen,
}

async fn fails_over(pool: PgPool, kind: Kind, fall: Fall) {
    let mut nodes = RedisNodes::for_test(kind, DEAD_SOON).await;
    let app = TestApp::builder(pool).instances(2).redis(&nodes).l1_bytes(0).l2_deadline(L2_DEADLINE).build().await;
    let ids = products(&app).await;
    l2_holds(&app, &ids, None).await;
    let nemesis = async |done: &AtomicUsize| {
        reach(done, 200).await;
        let fallen = eventually("there is a primary", || nodes.primary_of("any")).await;
        match fall {
            Fall::Killed => nodes.kill_9(fallen).await,
            Fall::Frozen => nodes.signal(fallen, "STOP"),
        }
        eventually("another one is promoted", || async {
            nodes.primary_of("any").await.filter(|node| *node != fallen)
        })
        .await;
        reach(done, 200).await;
        // The fallen node is not back yet.
        l2_holds(&app, &ids, None).await;
        match fall {
            Fall::Killed => nodes.launch(fallen).await,
            Fall::Frozen => nodes.signal(fallen, "CONT"),
        }
        reach(done, 200).await;
        nodes.settled().await;
    };
    under_load(&app, &ids, nemesis).await;
    l2_holds(&app, &ids, None).await;
}

/// Changes and reads each product by a client of its own until the nemesis is done. The client
/// reads at the instance that acknowledged its write. Every answer is 200, and none is older than
/// that write.
async fn under_load(app: &TestApp, ids: &[i64], nemesis: impl AsyncFnOnce(&AtomicUsize)) {
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients = together(ids.iter().enumerate().map(|(client, id)| {
        let (stop, done) = (&stop, &done);
        let instance = app.instance(client % 2);
        async move {
            let mut price = 10;
            while !stop.load(Ordering::Relaxed) {
                price += 1;
                instance.patch_product(*id, json!({ "price_cents": price })).await.expect(200);
                for _ in 0..4 {
                    assert_eq!(instance.get_product(*id).await.int("/price_cents"), price);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                tokio::task::yield_now().await;
            }
        }
    }));
    let nemesis = async {
        nemesis(&done).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(clients, nemesis);
}

/// Waits for this many more reads.
async fn reach(done: &AtomicUsize, more: usize) {
    let goal = done.load(Ordering::Relaxed) + more;
    eventually("reads are answered", || async { (done.load(Ordering::Relaxed) >= goal).then_some(()) }).await;
}

/// Returns the full key of a product, and the primary that has it.
async fn key_of(nodes: &RedisNodes, app: &TestApp, id: i64) -> (String, usize) {
    eventually("a node holds the product", || async {
        for node in nodes.primaries().await? {
            let mut keys = RedisKeys::new(&app.namespace, nodes.nodes[node].connect().await.ok()?);
            if let Some(key) = keys.ending(&format!("product:{id}")).await.pop() {
                return Some((key, node));
            }
        }
        None
    })
    .await
}

async fn products(app: &TestApp) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..PRODUCTS {
        ids.push(app.product(product().price(1)).await);
    }
    ids
}

/// Waits until L2 has answered each product, so that every node of Redis is used. If `price` is
/// given, each answer must have it.
async fn l2_holds(app: &TestApp, ids: &[i64], price: Option<i64>) {
    for id in ids {
        eventually("L2 answers", || async {
            let read = app.instance(1).get_product(*id).await;
            let hit = read.expect(200).cache_status().hit("l2");
            if let Some(price) = price {
                assert_eq!(read.int("/price_cents"), price);
            }
            hit.then_some(())
        })
        .await;
    }
}
