//! Request directives (RFC 9111, section 5.2.1). A client asks for a reload, or for an answer from
//! the tiers only.

use sqlx::PgPool;

use crate::support::{TestApp, database, order, product};

#[sqlx::test]
async fn no_cache_reads_the_database_and_refreshes_the_tiers(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    let path = format!("/products/{id}");
    app.get(&path).await.expect(200);
    database::sabotage(&app.pool, &format!("update products set price_cents = 777 where id = {id}")).await;
    assert_eq!(app.get(&path).await.int("/price_cents"), 100, "a hit, as nothing was invalidated");
    let reloaded = app.get_with(&path, "cache-control", "no-cache").await;
    reloaded.cache_status().expect_load();
    assert_eq!(reloaded.int("/price_cents"), 777);
    let after = app.get(&path).await;
    after.cache_status().expect_hit("l1");
    assert_eq!(after.int("/price_cents"), 777);
}

#[sqlx::test]
async fn no_store_reads_the_database_and_leaves_the_tiers_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    app.get_with(&path, "cache-control", "no-store").await.expect(200);
    app.get(&path).await.cache_status().expect_load();
}

#[sqlx::test]
async fn only_if_cached_never_loads(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (id, other) = (app.product(product()).await, app.product(product()).await);
    let number = app.order(order(1).item(id, 1)).await;
    let paths = [
        format!("/products/{id}"),
        format!("/products/batch?ids={id},{other}"),
        format!("/orders/{number}"),
        "/products".into(),
        "/orders?customer_id=1".into(),
    ];
    for path in paths {
        app.get_with(&path, "cache-control", "only-if-cached").await.problem("not-cached", 504);
        app.get(&path).await.expect(200);
        app.get_with(&path, "cache-control", "only-if-cached").await.expect(200).cache_status().expect_hit("l1");
    }
}

#[sqlx::test]
async fn unknown_directives_change_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    app.get(&path).await.expect(200);
    for directive in ["no-transform", "x-own=1", "", ",,,", "max-stale", "no-cachet"] {
        app.get_with(&path, "cache-control", directive).await.expect(200).cache_status().expect_hit("l1");
    }
}
