//! One product: read through the tiers, changed, deleted and created.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{TestApp, database, eventually, product, redis_keys::RedisKeys};

#[sqlx::test]
async fn a_product_is_read_as_it_was_created(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let created = app.create_product(product().price(1999).stock(7)).await;
    let id = created.expect(201).int("/id");
    assert_eq!(created.must_have("location"), format!("/products/{id}"));
    let read = app.get_product(id).await;
    assert_eq!(read.ok(), created.json());
    assert_eq!(
        (read.int("/price_cents"), read.int("/stock"), read.int("/version"), read.int("/view_count")),
        (1999, 7, 1, 0)
    );
    assert_eq!(database::one(&app.pool, &format!("select price_cents from products where id = {id}")).await, 1999);
}

#[sqlx::test]
async fn the_first_read_loads_and_the_second_comes_from_l1(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let first = app.get_product(id).await;
    first.expect(200).cache_status().expect_load();
    let second = app.get_product(id).await;
    second.expect(200).cache_status().expect_hit("l1");
    assert_eq!((first.text.clone(), first.etag()), (second.text.clone(), second.etag()));
}

#[sqlx::test]
async fn a_read_from_l1_needs_no_database(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let loaded = app.get_product(id).await;
    app.cut_database();
    assert_eq!(app.get_product(id).await.ok(), loaded.ok());
}

#[sqlx::test]
async fn a_second_instance_reads_from_l2_what_the_first_has_loaded(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).build().await;
    let id = app.product(product().price(100)).await;
    let loaded = app.get_product(id).await;
    filled(&app, &format!("product:{id}")).await;
    database::sabotage(&app.pool, &format!("update products set price_cents = 777 where id = {id}")).await;
    let second = app.instance(1).get_product(id).await;
    second.expect(200).cache_status().expect_hit("l2");
    assert_eq!((second.json(), second.etag()), (loaded.json(), loaded.etag()));
    app.instance(1).get_product(id).await.cache_status().expect_hit("l1");
}

#[sqlx::test]
async fn an_entry_in_redis_has_a_lifetime(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    let mut keys = filled(&app, &format!("product:{id}")).await;
    let lifetime = keys.lifetime_ms(&format!("product:{id}")).await;
    assert!((1..=24 * 3_600_000).contains(&lifetime), "a lifetime of {lifetime} ms");
}

#[sqlx::test]
async fn a_change_shows_at_the_next_read_with_a_new_tag_and_version(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    let before = app.get_product(id).await;
    let change = app.patch_product(id, json!({ "price_cents": 250 })).await;
    assert_eq!((change.expect(200).int("/price_cents"), change.int("/version")), (250, 2));
    let after = app.get_product(id).await;
    assert_eq!(after.without_views(), change.without_views());
    assert_ne!(after.etag(), before.etag());
    assert_eq!(database::one(&app.pool, &format!("select price_cents from products where id = {id}")).await, 250);
}

#[sqlx::test]
async fn a_merge_patch_changes_what_it_names_and_null_clears(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100).stock(5)).await;
    let request = app.request(reqwest::Method::PATCH, &format!("/products/{id}"));
    let body = json!({ "package_size": null, "stock": 6 }).to_string();
    let reply = app.send(request.header("content-type", "application/merge-patch+json").body(body)).await;
    let changed = reply.expect(200).json();
    assert_eq!((changed["package_size"].clone(), changed["stock"].clone()), (json!(null), json!(6)));
    assert_eq!(
        (changed["price_cents"].clone(), changed["name"].clone()),
        (json!(100), json!("Bananas, tropical fruit, 40 lb"))
    );
}

#[sqlx::test]
async fn an_unknown_product_is_not_found_and_its_absence_is_cached_until_it_exists(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.get_product(100_000_000).await.problem("not-found", 404);
    app.cut_database();
    app.get_product(100_000_000).await.problem("not-found", 404);
    app.restore_database();
    let id = eventually("the database is back", || async {
        let reply = app.create_product(product()).await;
        (reply.status == 201).then(|| reply.int("/id"))
    })
    .await;
    assert_eq!(id, 100_000_000, "the first id that the service gives out");
    // The first read on a connection that was cut before fails.
    eventually("the product is read", || async { (app.get_product(id).await.status == 200).then_some(()) }).await;
}

#[sqlx::test]
async fn a_deleted_product_is_gone_at_the_next_read(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    app.delete_product(id).await.expect(204);
    app.get_product(id).await.problem("not-found", 404);
    app.delete_product(id).await.problem("not-found", 404);
    app.patch_product(id, json!({ "stock": 1 })).await.problem("not-found", 404);
}

#[sqlx::test]
async fn the_answer_tells_its_age_and_how_long_others_may_keep_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.get_product(id).await;
    let hit = app.get_product(id).await;
    assert!(hit.must_have("age").parse::<u64>().is_ok_and(|age| age < 60), "{hit:#?}");
    let control = hit.must_have("cache-control");
    assert!(control.contains("public") && control.contains("max-age="), "{control}");
    assert!(!hit.cache_status().0.contains("key="), "keys stay inside");
}

#[sqlx::test]
async fn reads_count_as_views_without_changing_the_version_or_the_tag(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let tag = app.get_product(id).await.etag();
    for _ in 0..4 {
        app.get_product(id).await.expect(200);
    }
    eventually("five views are counted", || async {
        (database::one(&app.pool, &format!("select view_count from products where id = {id}")).await == 5).then_some(())
    })
    .await;
    let read = app.get_product(id).await;
    assert_eq!((read.int("/version"), read.etag()), (1, tag));
}

/// Waits until Redis has the entry, because its fill continues after the answer.
async fn filled(app: &TestApp, key: &str) -> RedisKeys {
    eventually("Redis is filled", || async {
        let mut keys = app.redis_keys().await;
        keys.holds(key).await.then_some(keys)
    })
    .await
}
