//! An outage of Postgres. Requests that need it get 503 with Retry-After, no answer is made up, and
//! the service recovers afterwards.

use std::{pin::pin, time::Duration};

use serde_json::json;
use sqlx::PgPool;

use crate::support::{Fault, Gate, TestApp, database, eventually, order, product, together};

#[sqlx::test]
async fn what_needs_the_database_is_refused_and_works_again_later(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (warm, cold) = (app.product(product().stock(5)).await, app.product(product()).await);
    app.get_product(warm).await.expect(200);
    let before = database::digest(&app.pool).await;
    app.cut_database();
    for reply in [
        app.get_product(cold).await,
        app.get("/products?category=NEW").await,
        app.create_product(product()).await,
        app.patch_product(warm, json!({ "stock": 9 })).await,
        app.delete_product(warm).await,
        app.place_order(order(1).item(warm, 1)).await,
    ] {
        reply.problem("unavailable", 503);
        assert!(reply.must_have("retry-after").parse::<u32>().is_ok(), "{reply:#?}");
        assert!(!reply.text.to_lowercase().contains("sql"), "the database's words stay inside: {reply:#?}");
    }
    assert_eq!(database::digest(&app.pool).await, before);
    app.restore_database();
    eventually("reads work again", || async { (app.get_product(cold).await.status == 200).then_some(()) }).await;
    app.order(order(1).item(warm, 1)).await;
    assert_eq!(app.get_product(warm).await.int("/stock"), 4);
}

#[sqlx::test]
async fn while_postgres_hangs_no_read_waits_for_a_turn_to_fail(pool: PgPool) {
    let app = TestApp::builder(pool)
        .config(|config| {
            config.request_timeout = Duration::from_secs(8);
            config.cache_max_staleness = Duration::from_millis(500);
        })
        .build()
        .await;
    let ids = together((0..100).map(|_| app.product(product()))).await;
    app.database.set(Fault::BlackHole);
    let replies = together(ids.iter().map(|id| app.get_product(*id))).await;
    let told = replies.iter().filter(|reply| reply.expect(503).at("/type") == "/problems/unavailable").count();
    // A load that has the permit finds out whether Postgres is back, and it fails when its time is
    // over. On a busy machine several loads do so, one after the other.
    assert!(told >= ids.len() * 9 / 10, "the others fail before: {told}");
    let refused = app.metrics().await.sum("cache_admission_refused_total", &[("reason", "unreachable")]);
    assert_eq!(refused, told as f64);
    app.restore_database();
    eventually("reads work again", || async { (app.get_product(ids[0]).await.status == 200).then_some(()) }).await;
}

#[sqlx::test]
async fn a_postgres_that_refuses_or_hangs_costs_a_503_in_time(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.request_timeout = Duration::from_secs(4)).build().await;
    let id = app.product(product()).await;
    for fault in [Fault::Refuse, Fault::BlackHole] {
        app.database.set(fault);
        let asked = tokio::time::timeout(Duration::from_secs(15), app.get_product(id)).await;
        let reply = asked.unwrap_or_else(|_| panic!("no answer under {fault:?}"));
        reply.expect(503).must_have("retry-after");
        app.restore_database();
        eventually("reads work again", || async { (app.get_product(id).await.status == 200).then_some(()) }).await;
        // A change removes the product from the tiers, so that the next round has to load it again.
        app.patch_product(id, json!({ "stock": 7 })).await.expect(200);
    }
}

#[sqlx::test]
async fn connections_that_fall_silent_while_they_are_used_do_not_use_up_the_pool(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.request_timeout = Duration::from_secs(1)).build().await;
    let id = app.product(product()).await;
    // The number of rounds is the number of connections in the pool.
    for _ in 0..3 {
        let gate = Gate::table(&app.pool, "products").await;
        let writing = app.patch_product(id, json!({ "stock": 7 }));
        let silence = async {
            gate.until_waiting(1).await;
            app.database.silence_open();
            gate.open().await;
        };
        let (reply, ()) = tokio::join!(writing, silence);
        reply.expect(503);
        eventually("writes work again", || async {
            let reply = app.patch_product(id, json!({ "stock": 8 })).await;
            (reply.status == 200).then_some(())
        })
        .await;
    }
}

#[sqlx::test]
async fn a_write_whose_commit_was_not_confirmed_is_never_hidden_by_the_cache(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    app.get_product(id).await.expect(200);
    app.get_product(id).await.cache_status().expect_hit("l1");
    let gate = Gate::row(&app.pool, "products", id).await;
    let change = async { app.patch_product(id, json!({ "price_cents": 200 })).await };
    let cut = async {
        gate.until_waiting(1).await;
        app.database.set(Fault::HalfOpen);
        gate.open().await;
        app.cut_database();
    };
    let (changed, ()) = tokio::join!(change, cut);
    app.restore_database();
    let reads = eventually("the database is back", || async {
        let reply = app.get_product(id).await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    // Postgres decides whether the write was committed. The service must agree with it.
    let truth = database::one(&app.pool, &format!("select price_cents from products where id = {id}")).await;
    assert_eq!(reads.int("/price_cents"), truth, "the write answered {}", changed.status);
}

#[sqlx::test]
async fn an_instance_waits_for_a_postgres_that_comes_late(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.database.set(Fault::Refuse);
    let mut starting = pin!(app.another());
    let early = tokio::time::timeout(Duration::from_millis(700), &mut starting).await;
    assert!(early.is_err(), "it neither gives up nor starts without a database");
    app.restore_database();
    let late = starting.await;
    late.get_product(id).await.expect(200);
}
