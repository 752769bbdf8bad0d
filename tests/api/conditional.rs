//! Conditional requests (RFC 9110, section 13). A reader that has the current answer gets 304. A
//! writer that had an older one gets 412.

use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Reply, TestApp, database, order, product, together};

#[sqlx::test]
async fn a_reader_that_has_the_answer_gets_304_without_a_body(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    let full = app.get(&path).await;
    let tag = full.etag();
    for condition in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".into()] {
        let reply = app.get_with(&path, "if-none-match", &condition).await;
        assert_eq!(reply.expect(304).text, "", "If-None-Match: {condition}");
        assert_eq!(reply.etag(), tag);
        same_fields(&full, &reply, &["cache-control", "vary", "content-location", "cdn-cache-control"]);
        let head = app.send(app.request(Method::HEAD, &path).header("if-none-match", &condition)).await;
        assert_eq!(head.expect(304).header("content-length"), None, "none, or that of the 200");
    }
    app.get_with(&path, "if-none-match", "\"other\"").await.expect(200);
}

#[sqlx::test]
async fn a_304_still_says_where_the_answer_came_from(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    let tag = app.get(&path).await.etag();
    app.get_with(&path, "if-none-match", &tag).await.expect(304).cache_status().expect_hit("l1");
}

#[sqlx::test]
async fn lists_and_orders_have_tags_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = app.order(order(1).item(id, 1)).await;
    let paths = [
        format!("/orders/{number}"),
        "/orders?customer_id=1".into(),
        "/products".into(),
        "/products/top".into(),
        format!("/products/batch?ids={id}"),
    ];
    for path in paths {
        let tag = app.get(&path).await.expect(200).etag();
        app.get_with(&path, "if-none-match", &tag).await.expect(304);
    }
    let list = app.orders_of(1).await.etag();
    app.move_order(number, "confirmed").await.expect(200);
    app.get_with("/orders?customer_id=1", "if-none-match", &list).await.expect(200);
}

#[sqlx::test]
async fn a_change_with_the_current_tag_happens_and_with_an_old_one_does_not(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    let path = format!("/products/{id}");
    let old = app.get(&path).await.etag();
    let change = |tag: &str, price: i64| {
        app.request(Method::PATCH, &path).header("if-match", tag).json(&json!({ "price_cents": price }))
    };
    let new = app.send(change(&old, 200)).await.expect(200).etag();
    app.send(change(&old, 300)).await.problem("version-conflict", 412);
    app.send(change(&format!("W/{new}"), 300)).await.problem("version-conflict", 412);
    assert_eq!(app.get(&path).await.int("/price_cents"), 200);
    app.send(change(&format!("{old}, {new}"), 400)).await.expect(200);
    app.send(change("*", 500)).await.expect(200);
    assert_eq!(database::one(&app.pool, &format!("select price_cents from products where id = {id}")).await, 500);
}

#[sqlx::test]
async fn of_two_writers_with_the_same_tag_one_wins(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    let tag = app.get(&path).await.etag();
    let writes = (1..=6).map(|price| {
        app.send(app.request(Method::PATCH, &path).header("if-match", &tag).json(&json!({ "price_cents": price })))
    });
    let replies = together(writes).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    assert_eq!(app.get(&path).await.int("/version"), 2);
}

#[sqlx::test]
async fn a_deletion_and_an_order_honour_if_match(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = app.order(order(1).item(id, 1)).await;
    let request = app.request(Method::DELETE, &format!("/products/{id}")).header("if-match", "\"stale\"");
    app.send(request).await.problem("version-conflict", 412);
    app.get_product(id).await.expect(200);
    let tag = app.get_order(number).await.etag();
    app.move_order(number, "confirmed").await.expect(200);
    let cancel = app.request(Method::PATCH, &format!("/orders/{number}")).header("if-match", &tag);
    app.send(cancel.json(&json!({ "status": "cancelled" }))).await.problem("version-conflict", 412);
    assert_eq!(app.get_order(number).await.at("/status"), json!("confirmed"));
}

#[sqlx::test]
async fn what_is_wrong_anyway_wins_over_a_stale_tag(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let patch = |id: i64| app.request(Method::PATCH, &format!("/products/{id}")).header("if-match", "\"stale\"");
    app.send(patch(7).json(&json!({ "stock": 1 }))).await.problem("not-found", 404);
    app.send(patch(id).json(&json!({ "stock": -1 }))).await.problem("validation", 422).names("/stock");
}

#[track_caller]
fn same_fields(full: &Reply, not_modified: &Reply, names: &[&str]) {
    for name in names {
        assert_eq!(full.header(name), not_modified.header(name), "{name} of 200 and 304");
    }
}
