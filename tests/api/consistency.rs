//! Requests for more than the guarantees of every answer: a token that binds a later read, and a
//! write that waits for all instances.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Redis, Reply, TestApp, eventually, product};

async fn read_with(instance: &crate::support::Instance, path: &str, token: &str) -> Reply {
    instance.send(instance.request(Method::GET, path).header("Consistency-Token", token)).await
}

#[sqlx::test]
async fn a_token_of_a_write_shows_it_on_another_instance(pool: PgPool) {
    // Without Redis there are no hints, so the other instance would learn of the write only by its
    // next poll.
    let app = TestApp::builder(pool).instances(2).redis(Redis::None).build().await;
    let id = app.product(product().price(1)).await;
    let (writer, reader) = (app.instance(0), app.instance(1));
    for price in 2..22 {
        reader.get_product(id).await.expect(200);
        let written = writer.patch_product(id, json!({ "price_cents": price })).await;
        let token = written.header("consistency-token").expect("a token");
        let one = read_with(reader, &format!("/products/{id}"), &token).await;
        assert_eq!(one.int("/price_cents"), price, "{one:#?}");
        let many = read_with(reader, &format!("/products/batch?ids={id}"), &token).await;
        assert_eq!(many.int("/items/0/price_cents"), price, "{many:#?}");
    }
}

#[sqlx::test]
async fn a_token_of_a_read_is_never_answered_older_elsewhere(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).redis(Redis::None).build().await;
    let id = app.product(product().price(1)).await;
    let path = format!("/products/{id}");
    for price in 2..22 {
        app.instance(1).get(&path).await.expect(200);
        app.instance(0).patch_product(id, json!({ "price_cents": price })).await;
        let seen = app.instance(0).get(&path).await;
        let token = seen.header("consistency-token").expect("a token");
        assert_eq!(read_with(app.instance(1), &path, &token).await.int("/price_cents"), price);
    }
}

#[sqlx::test]
async fn a_client_with_a_token_gets_none_that_covers_less(pool: PgPool) {
    let app = TestApp::start(pool).await;
    // On a busy machine a poll may come too late for the read, which then loads.
    eventually("a read with a token hits L1", || async {
        let (read, written) = (app.product(product()).await, app.product(product()).await);
        let path = format!("/products/{read}");
        app.get(&path).await.expect(200);
        let token = app.patch_product(written, json!({ "stock": 4 })).await.must_have("consistency-token");
        let reply = read_with(&app, &path, &token).await;
        reply.cache_status().hit("l1").then(|| {
            assert_eq!(reply.must_have("consistency-token"), token, "the entry was read before the change");
        })
    })
    .await;
}

#[sqlx::test]
async fn a_write_that_prefers_the_fleet_is_acknowledged_when_no_instance_is_older(pool: PgPool) {
    let max_staleness = Duration::from_millis(300);
    let app = TestApp::builder(pool).instances(2).redis(Redis::None).max_staleness(max_staleness).build().await;
    let id = app.product(product().price(1)).await;
    let (writer, reader) = (app.instance(0), app.instance(1));
    for price in 2..7 {
        reader.get_product(id).await.expect(200);
        let patch = writer.request(Method::PATCH, &format!("/products/{id}")).json(&json!({ "price_cents": price }));
        let written = writer.send(patch.header("Prefer", "fleet-consistent")).await;
        assert_eq!(written.header("preference-applied").as_deref(), Some("fleet-consistent"));
        assert_eq!(reader.get_product(id).await.int("/price_cents"), price);
    }
}

#[sqlx::test]
async fn a_token_that_is_none_is_refused_and_one_of_another_database_costs_a_load(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    app.get(&path).await.expect(200);
    let wrong = app.send(app.request(Method::GET, &path).header("Consistency-Token", "yesterday")).await;
    wrong.problem("invalid-parameter", 400).names("Consistency-Token");
    let foreign = read_with(&app, &path, "0123456789ab-1795000000000000").await;
    assert_eq!(foreign.header("cache-status").as_deref(), Some("aside-l1; fwd=request"));
}
