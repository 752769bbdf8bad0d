//! Limits of size, time and number, and the headers that a request carries through.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Gate, TestApp, database, eventually, product, together};

#[sqlx::test]
async fn a_body_over_the_limit_is_refused(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.body_limit = 2_048).build().await;
    let before = database::digest(&app.pool).await;
    app.create_product(product().name(&"x".repeat(4_096))).await.problem("payload-too-large", 413);
    assert_eq!(database::digest(&app.pool).await, before);
}

#[sqlx::test]
async fn a_request_that_takes_too_long_ends_with_a_problem(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.request_timeout = Duration::from_secs(2)).build().await;
    let id = app.product(product()).await;
    let gate = Gate::table(&app.pool, "products").await;
    let reply = app.get_product(id).await;
    // Postgres ends the statement when the service ends the request. On a busy machine either may
    // be first.
    let kind = reply.expect(503).at("/type");
    assert!(kind == "/problems/timeout" || kind == "/problems/overloaded", "{kind}");
    gate.open().await;
    eventually("reads work again", || async { (app.get_product(id).await.status == 200).then_some(()) }).await;
}

#[sqlx::test]
async fn every_answer_carries_a_request_id_and_keeps_the_clients(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (one, two) =
        (app.get("/livez").await.must_have("x-request-id"), app.get("/nowhere").await.must_have("x-request-id"));
    assert_ne!(one, two);
    let own = app.get_with("/livez", "x-request-id", "client-4711").await;
    assert_eq!(own.must_have("x-request-id"), "client-4711");
}

#[sqlx::test]
async fn cross_origin_requests_are_off_until_an_origin_is_allowed(pool: PgPool) {
    let closed = TestApp::start(pool.clone()).await;
    assert_eq!(
        closed.get_with("/livez", "origin", "https://shop.example").await.header("access-control-allow-origin"),
        None
    );
    let open =
        TestApp::builder(pool).config(|config| config.cors_origins = vec!["https://shop.example".into()]).build().await;
    let allowed = open.get_with("/livez", "origin", "https://shop.example").await;
    assert_eq!(allowed.must_have("access-control-allow-origin"), "https://shop.example");
    assert_eq!(
        open.get_with("/livez", "origin", "https://other.example").await.header("access-control-allow-origin"),
        None
    );
}

#[sqlx::test]
async fn requests_beyond_the_limit_are_refused_at_once_and_probes_answer(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.max_requests = 3).build().await;
    let id = app.product(product()).await;
    let gate = Gate::table(&app.pool, "products").await;
    let readers = together((0..3).map(|_| app.get_product(id)));
    let visitor = async {
        let refused = eventually("there is no room", || async {
            let reply = app.get("/products/top").await;
            (reply.status == 503).then_some(reply)
        });
        refused.await.problem("overloaded", 503);
        app.get("/livez").await.expect(200);
        app.get("/readyz").await.expect(200);
        gate.open().await;
    };
    let (replies, ()) = tokio::join!(readers, visitor);
    assert!(replies.iter().filter(|reply| reply.status == 200).count() >= 2, "who was let in is answered");
    app.get_product(id).await.expect(200);
}

#[sqlx::test]
async fn loads_beyond_the_permits_wait_and_all_are_answered(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.extend(together((0..25).map(|_| app.product(product()))).await);
    }
    let gate = Gate::table(&app.pool, "products").await;
    let readers = together(ids.iter().map(|id| app.get_product(*id)));
    let opener = async {
        eventually("most of them wait for their turn", || async {
            let metrics = app.metrics().await;
            let product = [("pattern", "product")];
            let waiting = metrics.sum("cache_admission_waiting", &product);
            let in_flight = metrics.sum("cache_admission_in_flight", &product);
            (waiting + in_flight >= ids.len() as f64).then_some(())
        })
        .await;
        let in_flight = app.metrics().await.sum("cache_admission_in_flight", &[]);
        let permits = app.metrics().await.sum("cache_admission_permits", &[("kind", "loads")]);
        assert!(in_flight <= permits, "{in_flight} loads use the database, {permits} may");
        gate.open().await;
    };
    let (replies, ()) = tokio::join!(readers, opener);
    replies.iter().for_each(|reply| {
        reply.expect(200);
    });
    assert_eq!(app.metrics().await.sum("cache_admission_refused_total", &[]), 0.0);
}

#[sqlx::test]
async fn reads_are_answered_while_writes_wait_for_a_lock(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (locked, other) = (app.product(product()).await, app.product(product()).await);
    let gate = Gate::row(&app.pool, "products", locked).await;
    let writers = together((0..50).map(|price| app.patch_product(locked, json!({ "price_cents": price }))));
    let reader = async {
        eventually("writes use all the connections that they may", || async {
            let metrics = app.metrics().await;
            let writes = metrics.sum("cache_admission_in_flight", &[("pattern", "writes")]);
            (writes >= metrics.sum("cache_admission_permits", &[("kind", "writes")])).then_some(())
        })
        .await;
        for _ in 0..20 {
            app.get_with(&format!("/products/{other}"), "cache-control", "no-cache").await.expect(200);
        }
        gate.open().await;
    };
    let (replies, ()) = tokio::join!(writers, reader);
    replies.iter().for_each(|reply| {
        reply.expect(200);
    });
}

#[sqlx::test]
async fn five_hundred_readers_of_a_cold_product_cause_one_load(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let gate = Gate::table(&app.pool, "products").await;
    let readers = together((0..500).map(|_| app.get_product(id)));
    let opener = async {
        gate.until_waiting(1).await;
        eventually("all readers wait", || async {
            let waiting = app.metrics().await.sum("http_requests_in_flight", &[]);
            (waiting >= 500.0).then_some(())
        })
        .await;
        assert_eq!(gate.waiting().await, 1, "one statement waits, not one for each reader");
        gate.open().await;
    };
    let (replies, ()) = tokio::join!(readers, opener);
    replies.iter().for_each(|reply| {
        reply.expect(200);
    });
    let metrics = app.metrics().await;
    let loads = metrics.sum("cache_loads_total", &[("pattern", "product")]);
    assert_eq!((loads, metrics.requests("product", "collapsed")), (1.0, 499));
}

#[sqlx::test]
async fn head_and_options_are_answered(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    let full = app.get(&path).await;
    let head = app.send(app.request(Method::HEAD, &path)).await;
    assert_eq!((head.expect(200).text.as_str(), head.etag()), ("", full.etag()));
}
