//! Stale answers while Postgres is down. Only the catalogue is answered stale, with a flag. No
//! answer is older than a change that the instance knows.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sqlx::PgPool;

use crate::support::{Fault, Proxy, Redis, RedisServer, Reply, TestApp, eventually, order, product};

const D: Duration = Duration::from_millis(200);

/// Waits until the instance answers this path stale, or refuses it because the database is down.
async fn settled(app: &TestApp, path: &str) -> Reply {
    eventually("the outage is noticed", || async {
        let reply = app.get(path).await;
        (reply.status == 503 || is_stale(&reply)).then_some(reply)
    })
    .await
}

/// Waits until Redis holds the product.
async fn in_l2(app: &TestApp, id: i64) {
    let key = format!("product:{id}");
    eventually("L2 is filled", || async { app.redis_keys().await.holds(&key).await.then_some(()) }).await;
}

fn is_stale(reply: &Reply) -> bool {
    reply.header("cache-status").is_some_and(|status| status.contains("detail=database-away"))
}

#[sqlx::test]
async fn the_catalogue_is_answered_stale_and_the_rest_refused(pool: PgPool) {
    let app = TestApp::builder(pool).max_staleness(D).build().await;
    let (warm, cold) = (app.product(product().price(100)).await, app.product(product()).await);
    let placed = app.order(order(1).item(warm, 1)).await;
    let paths = [format!("/products/{warm}"), format!("/products/batch?ids={warm}"), "/products/top?limit=5".into()];
    for fault in [Fault::Refuse, Fault::BlackHole] {
        for path in &paths {
            app.get(path).await.expect(200);
        }
        app.get_order(placed).await.expect(200);
        let token = app.get_product(warm).await.must_have("consistency-token");
        app.database.set(fault);
        for path in &paths {
            let reply = settled(&app, path).await;
            reply.expect(200);
            assert!(is_stale(&reply), "{reply:#?}");
            assert_eq!(reply.must_have("cache-control"), "no-store", "nobody may keep it");
            reply.must_have("age").parse::<u64>().expect("an age");
        }
        settled(&app, &format!("/orders/{placed}")).await.expect(503).must_have("retry-after");
        settled(&app, &format!("/products/{cold}")).await.expect(503);
        app.patch_product(warm, json!({ "price_cents": 1 })).await.expect(503);
        let promised = app.get_with(&format!("/products/{warm}"), "consistency-token", &token).await;
        promised.expect(503);
        app.restore_database();
        eventually("answers are fresh again", || async { (!is_stale(&app.get_product(warm).await)).then_some(()) })
            .await;
        assert_eq!(app.get_product(warm).await.int("/price_cents"), 100);
    }
}

#[sqlx::test]
async fn what_the_instance_knows_to_be_old_or_gone_is_not_answered(pool: PgPool) {
    let line = Arc::new(Proxy::before(RedisServer::shared().address().to_string()).await);
    let app = TestApp::builder(pool).max_staleness(D).redis(Redis::Behind(line.clone())).build().await;
    let (changed, deleted, stored) =
        (app.product(product()).await, app.product(product()).await, app.product(product()).await);
    for id in [changed, deleted, stored] {
        app.get_product(id).await.expect(200);
    }
    for id in [changed, deleted, stored] {
        in_l2(&app, id).await;
    }
    // Redis does not receive the invalidations, so it still has the old entries.
    line.cut();
    app.patch_product(changed, json!({ "price_cents": 7 })).await.expect(200);
    app.delete_product(deleted).await.expect(204);
    app.cut_database();
    line.restore();
    assert!(is_stale(&settled(&app, &format!("/products/{stored}")).await));
    for id in [changed, deleted] {
        settled(&app, &format!("/products/{id}")).await.expect(503);
    }
}

#[sqlx::test]
async fn what_only_redis_holds_is_answered_stale_too(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).max_staleness(D).build().await;
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    in_l2(&app, id).await;
    app.cut_database();
    let other = app.instance(1);
    let reply = eventually("the outage is noticed", || async {
        let reply = other.get_product(id).await;
        is_stale(&reply).then_some(reply)
    })
    .await;
    assert_eq!(reply.expect(200).int("/id"), id);
}
