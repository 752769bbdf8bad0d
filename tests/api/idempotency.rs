//! `Idempotency-Key`. An order is placed once, no matter how often and how concurrently it is sent.

use sqlx::PgPool;

use crate::support::{TestApp, database, order, product, together};

#[sqlx::test]
async fn fifty_concurrent_orders_with_one_key_make_one_order(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).build().await;
    let id = app.product(product().stock(100)).await;
    let sent = (0..50).map(|n| app.instance(n % 2).place_order_once("\"checkout-1\"", order(749).item(id, 2)));
    let replies = together(sent).await;
    let mut bodies: Vec<_> = replies.iter().map(|reply| reply.expect(201).text.clone()).collect();
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "every answer is the answer to the one order");
    assert_eq!(database::count(&app.pool, "orders").await, 1);
    assert_eq!(database::one(&app.pool, &format!("select stock from products where id = {id}")).await, 98);
    let replayed = replies.iter().filter(|reply| reply.header("idempotency-replayed").is_some());
    assert_eq!(replayed.count(), 49, "all but one say that they repeat an earlier answer");
}

#[sqlx::test]
async fn a_key_may_be_quoted_or_bare(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let first = app.place_order_once("\"k-1\"", order(1).item(id, 1)).await;
    let second = app.place_order_once("k-1", order(1).item(id, 1)).await;
    assert_eq!(first.ok(), second.ok());
    assert_eq!(database::count(&app.pool, "orders").await, 1);
}

#[sqlx::test]
async fn the_same_key_with_another_order_is_refused(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.place_order_once("k", order(1).item(id, 1)).await.expect(201);
    app.place_order_once("k", order(1).item(id, 2)).await.problem("idempotency-mismatch", 422);
    assert_eq!(database::count(&app.pool, "orders").await, 1);
}

#[sqlx::test]
async fn orders_without_a_key_or_with_different_keys_are_different_orders(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.order(order(1).item(id, 1)).await;
    app.order(order(1).item(id, 1)).await;
    app.place_order_once("a", order(1).item(id, 1)).await.expect(201);
    app.place_order_once("b", order(1).item(id, 1)).await.expect(201);
    assert_eq!(database::count(&app.pool, "orders").await, 4);
}

#[sqlx::test]
async fn an_order_that_failed_may_be_sent_again_with_its_key(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().stock(1)).await;
    app.place_order_once("k", order(1).item(id, 2)).await.problem("out-of-stock", 409);
    app.patch_product(id, serde_json::json!({ "stock": 2 })).await.expect(200);
    app.place_order_once("k", order(1).item(id, 2)).await.expect(201);
    assert_eq!(database::count(&app.pool, "orders").await, 1);
}

#[sqlx::test]
async fn a_replay_answers_as_the_first_time_though_the_order_has_moved_on(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let first = app.place_order_once("k", order(1).item(id, 1)).await;
    let number = first.expect(201).int("/id");
    app.move_order(number, "confirmed").await.expect(200);
    let again = app.place_order_once("k", order(1).item(id, 1)).await;
    assert_eq!(again.expect(201).json(), first.json());
    assert_eq!(again.must_have("location"), format!("/orders/{number}"));
    assert_eq!(app.get_order(number).await.int("/version"), 2);
}
