//! Shutdown in its documented order. The instance is not ready first, then finishes the requests in
//! flight, and then ends.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;

use crate::support::{Gate, RedisServer, TestApp, database, eventually, order, product, settings::L2_DEADLINE};

#[sqlx::test]
async fn a_draining_instance_finishes_what_is_under_way_and_then_ends(pool: PgPool) {
    let drain = Duration::from_secs(2);
    let mut app = TestApp::builder(pool).config(move |config| config.shutdown_drain = drain).build().await;
    let id = app.product(product().price(100)).await;
    let gate = Gate::row(&app.pool, "products", id).await;
    let change = async { app.patch_product(id, json!({ "price_cents": 250 })).await };
    let drain = async {
        gate.until_waiting(1).await;
        app.begin_shutdown();
        eventually("draining shows as not ready", || async {
            match app.try_send(app.request(reqwest::Method::GET, "/readyz")).await {
                Ok(reply) => (reply.status == 503).then_some(()),
                Err(_) => None,
            }
        })
        .await;
        assert!(!app.has_ended(), "it waits for the request under way");
        gate.open().await;
    };
    let (changed, ()) = tokio::join!(change, drain);
    assert_eq!(changed.expect(200).int("/price_cents"), 250);
    app.instance_mut(0).ended().await;
    assert!(app.try_send(app.request(reqwest::Method::GET, "/livez")).await.is_err(), "nobody listens any more");
    assert_eq!(database::one(&app.pool, &format!("select price_cents from products where id = {id}")).await, 250);
}

#[sqlx::test]
async fn counted_views_are_written_before_the_end(pool: PgPool) {
    let mut app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    for _ in 0..3 {
        app.get_product(id).await.expect(200);
    }
    app.begin_shutdown();
    app.instance_mut(0).ended().await;
    assert_eq!(database::one(&app.pool, &format!("select view_count from products where id = {id}")).await, 3);
}

#[sqlx::test]
async fn a_frozen_redis_does_not_hold_up_the_end(pool: PgPool) {
    let redis = RedisServer::start();
    let mut app = TestApp::builder(pool).redis(&redis).l2_deadline(L2_DEADLINE).build().await;
    let id = app.product(product().price(100)).await;
    app.get_product(id).await.expect(200);
    redis.freeze();
    app.patch_product(id, json!({ "price_cents": 300 })).await.expect(200);
    app.get_product(id).await.expect(200);
    app.begin_shutdown();
    let limit = app.config.shutdown_timeout;
    tokio::time::timeout(limit, app.instance_mut(0).ended()).await.expect("it ends within its limit");
    assert_eq!(database::one(&app.pool, &format!("select price_cents from products where id = {id}")).await, 300);
}

#[sqlx::test]
async fn an_instance_that_starts_again_shows_everything_acknowledged_before(pool: PgPool) {
    let mut app = TestApp::builder(pool).instances(2).build().await;
    let id = app.product(product().price(100).stock(10)).await;
    app.get_product(id).await.expect(200);
    app.patch_product(id, json!({ "price_cents": 300 })).await.expect(200);
    let number = app.order(order(3).item(id, 4)).await;
    app.begin_shutdown();
    app.instance_mut(0).ended().await;
    let again = app.another().await;
    assert_eq!((again.get_product(id).await.int("/price_cents"), again.get_product(id).await.int("/stock")), (300, 6));
    assert_eq!(again.orders_of(3).await.ids(), [number]);
}
