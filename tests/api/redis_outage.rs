//! Redis that is absent, killed, frozen, cut off and back again. No request fails because of it,
//! and L2 is used again afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::PgPool;

use crate::support::{
    Fault, Proxy, Redis, RedisServer, TestApp, database, eventually, order, product, settings::L2_DEADLINE, together,
};

#[sqlx::test]
async fn starts_and_works_without_redis_and_uses_it_when_it_comes(pool: PgPool) {
    let mut redis = RedisServer::absent();
    let app = TestApp::builder(pool).instances(2).redis(&redis).build().await;
    works(&app).await;
    redis.restart();
    l2_is_used(&app).await;
}

#[sqlx::test]
async fn kill_9_under_load_fails_no_request(pool: PgPool) {
    let mut redis = RedisServer::start();
    let app = TestApp::builder(pool).instances(2).redis(&redis).build().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(app.product(product().price(100)).await);
    }
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients = together((0..8_usize).map(|client| {
        let (app, ids, stop, done) = (&app, &ids, &stop, &done);
        async move {
            let mut turn = client;
            while !stop.load(Ordering::Relaxed) {
                let id = ids[turn * 7 % ids.len()];
                let instance = app.instance(turn % 2);
                let reply = if turn % 10 == 0 {
                    instance.patch_product(id, json!({ "price_cents": turn })).await
                } else {
                    instance.get_product(id).await
                };
                reply.expect(200);
                turn += 8;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
    let reach = async |count: usize| {
        eventually(&format!("{count} requests are answered"), || async {
            (done.load(Ordering::Relaxed) >= count).then_some(())
        })
        .await;
    };
    let nemesis = async {
        reach(300).await;
        redis.kill_9();
        reach(done.load(Ordering::Relaxed) + 600).await;
        redis.restart();
        reach(done.load(Ordering::Relaxed) + 300).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(clients, nemesis);
    l2_is_used(&app).await;
}

#[sqlx::test]
async fn a_frozen_redis_costs_little_time_and_no_answer(pool: PgPool) {
    let redis = RedisServer::start();
    let app = TestApp::builder(pool).instances(2).redis(&redis).l2_deadline(L2_DEADLINE).build().await;
    works(&app).await;
    redis.freeze();
    let started = Instant::now();
    for _ in 0..30 {
        let id = app.product(product()).await;
        app.get_product(id).await.expect(200);
    }
    let frozen = started.elapsed();
    // Without the breaker, each of the 30 cold reads would wait 20 ms or more for Redis. Without
    // the deadline it would wait forever.
    assert!(frozen < Duration::from_secs(10), "30 cold reads took {frozen:?}");
    let skipped = app.metrics().await.requests("product", "l2_skipped");
    assert!(skipped > 0, "the breaker never opened");
    works(&app).await;
    redis.thaw();
    l2_is_used(&app).await;
}

#[sqlx::test]
async fn l1_goes_on_serving_while_redis_is_down(pool: PgPool) {
    let mut redis = RedisServer::start();
    let app = TestApp::builder(pool).redis(&redis).build().await;
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    redis.kill_9();
    app.cut_database();
    app.get_product(id).await.expect(200).cache_status().expect_hit("l1");
}

#[sqlx::test]
async fn what_redis_lost_is_warmed_again_when_it_is_back(pool: PgPool) {
    let mut redis = RedisServer::start();
    let app = TestApp::builder(pool).redis(&redis).config(|config| config.cache_warm_top = 1).build().await;
    let popular = app.product(product()).await;
    database::sabotage(&app.pool, &format!("update products set view_count = 9 where id = {popular}")).await;
    redis.kill_9();
    eventually("Redis is found ill, and asked whether it is back", || async {
        app.get_product(app.product(product()).await).await.expect(200);
        (app.metrics().await.sum("cache_l2_breaker_open", &[]) == 1.0).then_some(())
    })
    .await;
    redis.restart();
    // No client asks for the popular product.
    eventually("the popular product is in Redis", || async {
        app.get_product(app.product(product()).await).await.expect(200);
        app.redis_keys().await.holds(&format!("product:{popular}")).await.then_some(())
    })
    .await;
}

#[sqlx::test]
async fn every_fault_of_the_connection_to_redis_leaves_the_answers_right(pool: PgPool) {
    let line = Arc::new(Proxy::before(RedisServer::shared().address().to_string()).await);
    let app = TestApp::builder(pool).redis(Redis::Behind(line.clone())).l2_deadline(L2_DEADLINE).build().await;
    let faults = [Fault::Cut, Fault::BlackHole, Fault::HalfOpen, Fault::Delay(Duration::from_millis(100)), Fault::None];
    for fault in faults {
        line.set(fault);
        works(&app).await;
    }
    l2_is_used(&app).await;
}

#[sqlx::test]
async fn a_connection_to_redis_that_died_silently_is_replaced(pool: PgPool) {
    let line = Arc::new(Proxy::before(RedisServer::shared().address().to_string()).await);
    let app = TestApp::builder(pool).redis(Redis::Behind(line.clone())).l2_deadline(L2_DEADLINE).build().await;
    l2_is_used(&app).await;
    // Data that is sent now never arrives, and no error reports it.
    line.set(Fault::BlackHole);
    eventually("Redis is found ill", || async {
        app.get_product(app.product(product()).await).await.expect(200);
        (app.metrics().await.sum("cache_l2_breaker_open", &[]) == 1.0).then_some(())
    })
    .await;
    line.restore();
    l2_is_used(&app).await;
}

#[sqlx::test]
async fn a_damaged_entry_is_a_miss_of_its_own_kind_and_the_answer_is_right(pool: PgPool) {
    let app = TestApp::builder(pool).l1_bytes(0).build().await;
    let id = app.product(product().price(321)).await;
    let key = format!("product:{id}");
    for garbage in [&b""[..], b"\0\xff garbage", b"{\"value\":1}", &[0xff; 4_096]] {
        app.get_product(id).await.expect(200);
        let mut keys = app.redis_keys().await;
        eventually("Redis is filled", || async { app.redis_keys().await.holds(&key).await.then_some(()) }).await;
        keys.overwrite(&key, garbage).await;
        assert_eq!(app.get_product(id).await.int("/price_cents"), 321);
    }
    assert_eq!(app.metrics().await.requests("product", "loaded_unreadable"), 4);
}

/// The key of an entry may hold any data. The next reads detect the damage, replace the entry and
/// continue with Redis.
#[sqlx::test]
async fn a_damaged_key_heals(pool: PgPool) {
    let app = TestApp::builder(pool).l1_bytes(0).build().await;
    let id = app.product(product().price(321)).await;
    let key = format!("product:{id}");
    let damages: &[(&str, &[&str])] = &[
        ("HSET", &["o", "abc"]),
        ("HSET", &["o", "0x10"]),
        ("HSET", &["o", "1e300"]),
        ("HSET", &["o", ""]),
        ("HSET", &["o", "99999999999999999999"]),
        ("HSET", &["f", "garbage", "te", "garbage", "t", "garbage"]),
        ("HDEL", &["o"]),
        ("HDEL", &["d"]),
        ("SET", &["something else"]),
    ];
    for (command, arguments) in damages {
        eventually("Redis is filled", || async {
            app.get_product(id).await.expect(200);
            app.redis_keys().await.holds(&key).await.then_some(())
        })
        .await;
        app.redis_keys().await.damage(&key, command, arguments).await;
        assert_eq!(app.get_product(id).await.int("/price_cents"), 321, "{command} {arguments:?}");
    }
    eventually("Redis answers again", || async { app.get_product(id).await.cache_status().hit("l2").then_some(()) })
        .await;
    assert_eq!(app.metrics().await.sum("cache_l2_calls_total", &[("result", "failed")]), 0.0);
}

/// Checks that reads and writes of every kind succeed with the right answers.
async fn works(app: &TestApp) {
    let id = app.product(product().price(100).stock(10)).await;
    assert_eq!(app.get_product(id).await.int("/price_cents"), 100);
    app.patch_product(id, json!({ "price_cents": 200 })).await.expect(200);
    assert_eq!(app.get_product(id).await.int("/price_cents"), 200);
    assert_eq!(app.get(&format!("/products/batch?ids={id}")).await.ids(), [id]);
    let number = app.order(order(1).item(id, 3)).await;
    assert_eq!(app.get_product(id).await.int("/stock"), 7);
    assert!(app.orders_of(1).await.ids().contains(&number) || app.orders_of(1).await.at("/next_cursor").is_string());
    app.move_order(number, "confirmed").await.expect(200);
    assert_eq!(app.get_order(number).await.at("/status"), json!("confirmed"));
}

/// Waits until fresh products reach Redis again. It polls, because the breaker probes after a
/// pause.
async fn l2_is_used(app: &TestApp) {
    eventually("Redis is filled again", || async {
        let id = app.product(product()).await;
        app.get_product(id).await.expect(200);
        app.redis_keys().await.holds(&format!("product:{id}")).await.then_some(())
    })
    .await;
}
