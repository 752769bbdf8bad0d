//! The management listener: metrics that add up, the cache's own reports, and manual invalidation
//! and warming.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{TestApp, database, eventually, order, product, together};

#[sqlx::test]
async fn every_read_counts_once_under_one_outcome(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (a, b) = (app.product(product()).await, app.product(product()).await);
    app.get_product(a).await.expect(200);
    app.get_product(a).await.expect(200);
    app.get(&format!("/products/batch?ids={a},{b},7")).await.expect(200);
    app.get_with(&format!("/products/{a}"), "cache-control", "no-cache").await.expect(200);
    app.get_with("/products/8", "cache-control", "only-if-cached").await.expect(504);
    let metrics = app.metrics().await;
    let counts = ["loaded_cold", "l1_hit", "bypass", "not_cached"].map(|outcome| metrics.requests("product", outcome));
    assert_eq!(counts, [3, 2, 1, 1]);
    assert_eq!(metrics.sum("cache_requests_total", &[("pattern", "product")]), 7.0);
}

#[sqlx::test]
async fn polls_of_the_ledger_are_timed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let polls = async || app.metrics().await.sum("cache_poll_duration_seconds_count", &[]);
    let before = polls().await;
    eventually("the instance polls again", || async { (polls().await > before).then_some(()) }).await;
    assert!(app.metrics().await.sum("cache_poll_duration_seconds_sum", &[]) > 0.0);
}

#[sqlx::test]
async fn invalidating_by_hand_makes_the_next_read_load(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    app.get_product(id).await.expect(200);
    database::sabotage(&app.pool, &format!("update products set price_cents = 5 where id = {id}")).await;
    assert_eq!(app.get_product(id).await.int("/price_cents"), 100);
    let done = app.order_management("/cache/invalidate", json!({ "names": [format!("product:{id}")] })).await;
    assert!(done.status.is_success(), "{done:#?}");
    assert_eq!(app.get_product(id).await.int("/price_cents"), 5);
}

#[sqlx::test]
async fn invalidating_a_list_by_its_name_makes_the_next_read_load(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.product(product().category("TEA").department("GROCERY")).await;
    for (name, path) in [
        ("product-list", "/products"),
        ("product-list:category:TEA", "/products?category=TEA"),
        ("product-list:department:GROCERY", "/products?department=GROCERY"),
    ] {
        app.get(path).await.expect(200);
        app.get(path).await.cache_status().expect_hit("l1");
        app.order_management("/cache/invalidate", json!({ "names": [name] })).await.expect(200);
        app.get(path).await.cache_status().expect_load();
    }
}

#[sqlx::test]
async fn warming_by_hand_loads_the_most_viewed_products(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.cache_warm_top = 2).build().await;
    let (cold, hot, warm) = (app.product(product()).await, app.product(product()).await, app.product(product()).await);
    for (id, views) in [(hot, 9), (warm, 5)] {
        database::sabotage(&app.pool, &format!("update products set view_count = {views} where id = {id}")).await;
    }
    let result = app.order_management("/cache/warm", json!({})).await;
    assert!(result.status.is_success(), "{result:#?}");
    assert_eq!(result.int("/failed"), 0);
    let metrics = app.metrics().await;
    assert_eq!(metrics.sum("cache_warmings_total", &[("warmer", "product-top"), ("result", "ok")]), 2.0);
    assert_eq!(metrics.sum("cache_warmed_entries_total", &[("warmer", "product-top")]), 2.0);
    assert_eq!(metrics.sum("cache_requests_total", &[]), 0.0, "nobody has read anything");
    app.cut_database();
    app.get_product(hot).await.expect(200);
    app.get_product(warm).await.expect(200);
    app.get_product(cold).await.expect(503);
}

#[sqlx::test]
async fn the_most_viewed_products_are_warm_when_the_instance_is_ready(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let fresh = app.another_with(|config| config.cache_warm_top = 10).await;
    crate::support::eventually("ready", || async { (fresh.get("/readyz").await.status == 200).then_some(()) }).await;
    app.cut_database();
    fresh.get_product(id).await.expect(200).cache_status().expect_hit("l1");
}

#[sqlx::test]
async fn statistics_and_policies_are_shown(pool: PgPool) {
    let app = TestApp::start(pool).await;
    assert!(app.manage("/cache/stats").await.ok().is_object());
    let policies = app.manage("/cache/policies").await.ok();
    let shown = policies.to_string();
    for pattern in ["product", "product-list", "product-top", "order", "order-list"] {
        assert!(shown.contains(&format!("\"{pattern}\"")), "no policy of {pattern}: {shown}");
    }
}

#[sqlx::test]
async fn what_is_cached_of_a_tenant_is_invalidated_by_one_row_and_erased_with_its_secret(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let product = app.product(product()).await;
    let id = app.order(order(749).item(product, 1)).await;
    let rows = async || -> i64 {
        let sql = "select count(*) from cache_ledger where tag like '%*%'";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.expect("a count")
    };
    for (route, body) in
        [("/cache/invalidate", json!({ "tenant": "demo" })), ("/cache/erase", json!({ "tenant": "demo" }))]
    {
        app.get_order(id).await.expect(200);
        app.orders_of(749).await.expect(200);
        app.get_order(id).await.cache_status().expect_hit("l1");
        app.order_management(route, body).await.expect(200);
        app.get_order(id).await.cache_status().expect_load();
        app.orders_of(749).await.cache_status().expect_load();
        assert_eq!(rows().await, 1);
    }
    for wrong in [json!({ "tenant": "Demo" }), json!({ "tenant": "a:b" }), json!({}), json!({ "tenant": 7 })] {
        app.order_management("/cache/erase", wrong).await.expect(422);
    }
    app.order_management("/cache/erase", json!({ "tenant": "never-met" })).await.expect(404);
}

#[sqlx::test]
async fn compliance_is_reported_as_json_and_as_markdown(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let report = app.manage("/cache/compliance").await.ok();
    assert_eq!(report["satisfied"], false, "nobody is verified or recorded");
    assert_eq!(report["keys"], json!(["test"]));
    let order =
        report["types"].as_array().expect("types").iter().find(|one| one["pattern"] == "order").expect("orders");
    assert_eq!((&order["sensitivity"], &order["sealed_in_l2"]), (&json!("regulated"), &json!(true)));
    let page = app.manage("/cache/compliance?format=markdown").await;
    assert!(page.expect(200).text.contains("| order | Regulated |"), "{}", page.text);
    app.manage("/cache/compliance?format=xml").await.expect(400);
}

#[sqlx::test]
async fn the_public_listener_knows_nothing_of_management(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for path in ["/metrics", "/cache/stats", "/cache/policies"] {
        app.get(path).await.problem("no-such-route", 404);
    }
}

#[sqlx::test]
async fn a_management_token_is_demanded_where_one_is_set(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.management_token = Some("s3cret".into())).build().await;
    app.manage("/metrics").await.expect(401);
    app.manage_with("/metrics", "authorization", "Bearer wrong").await.expect(401);
    app.manage_with("/metrics", "authorization", "Bearer s3cret").await.expect(200);
}

#[sqlx::test]
async fn the_hit_ratio_in_the_metrics_is_the_one_that_clients_see(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut products = Vec::new();
    for _ in 0..20 {
        products.push(app.product(product()).await);
    }
    let client = async |number: u64| {
        let (mut hits, mut random) = (0, fastrand::Rng::with_seed(number));
        for _ in 0..50 {
            let reply = app.get_product(products[random.usize(..products.len())]).await;
            let status = reply.expect(200).cache_status();
            hits += u64::from(status.hit("l1") || status.hit("l2"));
        }
        hits
    };
    let seen: u64 = together((0..8).map(client)).await.into_iter().sum();
    let metrics = app.metrics().await;
    let hits = metrics.requests("product", "l1_hit") + metrics.requests("product", "l2_hit");
    let all = metrics.sum("cache_requests_total", &[("pattern", "product")]);
    assert_eq!((hits, all), (seen, 400.0));
    let stats = app.manage("/cache/stats").await;
    assert_eq!(stats.at("/patterns/product/hit_ratio"), seen as f64 / 400.0);
}
