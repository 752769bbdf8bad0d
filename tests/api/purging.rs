//! Purges of the shared HTTP cache. Every committed change is purged, no matter which server was
//! down meanwhile, and no request waits for it.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;

use crate::support::{
    Cdn, Instance, TestApp,
    cdn::Mood,
    database,
    eventually::{eventually, within},
    order, product,
};

/// The time limit of a request. The last purge of a change comes after all earlier requests have
/// ended. The limit is therefore no longer than a slow machine needs.
const LONGEST_REQUEST: Duration = Duration::from_secs(5);
/// The time that the last purge of a change may take to come.
const LAST_PURGE: Duration = Duration::from_secs(40);

async fn start(pool: PgPool, cdn: &Cdn, instances: u32) -> TestApp {
    let app = TestApp::builder(pool)
        .instances(instances)
        .config(cdn.configure())
        .max_staleness(Duration::from_millis(500))
        .config(|config| config.request_timeout = LONGEST_REQUEST)
        .build()
        .await;
    // At the first start the contents of the shared cache are unknown.
    purged(cdn, "*").await;
    app
}

/// Waits until the tag has been purged.
async fn purged(cdn: &Cdn, tag: &str) {
    eventually(&format!("{tag} is purged"), || async { (cdn.purged(tag) > 0).then_some(()) }).await;
}

async fn refused(cdn: &Cdn) {
    eventually("a purge is refused", || async { (cdn.refused() > 0).then_some(()) }).await;
}

/// Waits until the cursor is past all changes that are committed now.
async fn settled(app: &TestApp) {
    let now = database::one(&app.pool, "extract(epoch from clock_timestamp()) * 1000000").await;
    let reached = "coalesce((select extract(epoch from at) * 1000000 from cdn_cursor), 0)";
    within(LAST_PURGE, "the position moves", || async {
        (database::one(&app.pool, reached).await > now).then_some(())
    })
    .await;
}

async fn is_active(instance: &Instance) -> bool {
    instance.metrics().await.sum("cdn_purger_active", &[]) == 1.0
}

#[sqlx::test]
async fn a_change_purges_what_depends_on_it_and_nothing_personal(pool: PgPool) {
    let cdn = Cdn::start().await;
    let app = start(pool, &cdn, 1).await;
    let id = app.product(product()).await;
    for tag in [
        &format!("product:{id}"),
        "product-list",
        "product-list:category:TROPICAL%20FRUIT",
        "product-list:department:PRODUCE",
    ] {
        purged(&cdn, tag).await;
    }
    app.order(order(7).item(id, 1)).await;
    settled(&app).await;
    cdn.forget();
    app.patch_product(id, json!({ "price_cents": 7 })).await.expect(200);
    purged(&cdn, &format!("product:{id}")).await;
    settled(&app).await;
    cdn.forget();
    database::outside(&app.pool, &format!("update products set price_cents = 8 where id = {id}")).await;
    purged(&cdn, &format!("product:{id}")).await;
    app.order_management("/cache/invalidate", json!({ "pattern": "product-list" })).await.expect(200);
    purged(&cdn, "product-list:*").await;
    assert!(!cdn.tags().iter().any(|tag| tag.contains("order")), "{:?}", cdn.tags());
    assert_eq!(cdn.authorized().into_iter().collect::<Vec<_>>(), ["Bearer a-token-for-purging"]);
    let metrics = app.metrics().await;
    assert!(metrics.sum("cdn_purges_total", &[("result", "ok")]) > 0.0);
    assert!(metrics.sum("cdn_purge_delay_seconds_count", &[]) > 0.0);
}

#[sqlx::test]
async fn a_change_is_purged_again_when_no_answer_from_before_can_be_on_its_way(pool: PgPool) {
    let cdn = Cdn::start().await;
    let app = start(pool, &cdn, 1).await;
    let tag = format!("product:{}", app.product(product()).await);
    within(LAST_PURGE, "it is purged three times", || async { (cdn.purged(&tag) == 3).then_some(()) }).await;
    settled(&app).await;
    assert_eq!(cdn.purged(&tag), 3);
}

#[sqlx::test]
async fn what_was_committed_while_the_shared_cache_was_down_is_purged_later(pool: PgPool) {
    let cdn = Cdn::start().await;
    let app = start(pool, &cdn, 1).await;
    for mood in [Mood::Refuses, Mood::Hangs] {
        cdn.set(mood);
        cdn.forget();
        // No request waits. The service answers them while the purge is in progress.
        let ids = [app.product(product()).await, app.product(product()).await];
        refused(&cdn).await;
        app.patch_product(ids[0], json!({ "price_cents": 7 })).await.expect(200);
        eventually("the lag shows", || async {
            (app.metrics().await.sum("cdn_purge_lag_seconds", &[]) > 0.2).then_some(())
        })
        .await;
        assert_eq!(cdn.tags().len(), 0);
        cdn.set(Mood::Takes);
        for id in ids {
            purged(&cdn, &format!("product:{id}")).await;
        }
        eventually("the lag is over", || async {
            (app.metrics().await.sum("cdn_purge_lag_seconds", &[]) == 0.0).then_some(())
        })
        .await;
    }
    assert!(app.metrics().await.sum("cdn_purges_total", &[("result", "failed")]) >= 2.0);
}

#[sqlx::test]
async fn what_was_not_confirmed_is_purged_by_the_next_instance(pool: PgPool) {
    let cdn = Cdn::start().await;
    let mut app = start(pool, &cdn, 1).await;
    let (refused_one, missed) = (app.product(product()).await, app.product(product()).await);
    settled(&app).await;
    cdn.set(Mood::Refuses);
    cdn.forget();
    app.patch_product(refused_one, json!({ "price_cents": 7 })).await.expect(200);
    refused(&cdn).await;
    app.begin_shutdown();
    app.instance_mut(0).ended().await;
    // No instance runs now.
    database::outside(&app.pool, &format!("update products set discontinued_at = now() where id = {missed}")).await;
    cdn.set(Mood::Takes);
    let _next = app.another().await;
    purged(&cdn, &format!("product:{refused_one}")).await;
    purged(&cdn, &format!("product:{missed}")).await;
    purged(&cdn, "product-list").await;
    assert_eq!(cdn.purged("*"), 0, "the position was known");
}

#[sqlx::test]
async fn one_instance_purges_and_another_takes_over(pool: PgPool) {
    let cdn = Cdn::start().await;
    let mut app = start(pool, &cdn, 1).await;
    let other = app.another().await;
    assert_eq!((is_active(&app).await, is_active(&other).await), (true, false));
    settled(&app).await;
    let first = app.product(product()).await;
    let lose = "select pg_terminate_backend(pid)::int from pg_locks join pg_database d on d.oid = database
        where locktype = 'advisory' and datname = current_database()";
    assert_eq!(database::one(&app.pool, lose).await, 1, "one holds the lock");
    let second = other.product(product()).await;
    purged(&cdn, &format!("product:{first}")).await;
    purged(&cdn, &format!("product:{second}")).await;

    let third = other.product(product()).await;
    app.begin_shutdown();
    app.instance_mut(0).ended().await;
    let fourth = other.product(product()).await;
    purged(&cdn, &format!("product:{third}")).await;
    purged(&cdn, &format!("product:{fourth}")).await;
    assert!(is_active(&other).await);
}

#[sqlx::test]
async fn a_transaction_that_commits_late_is_not_missed(pool: PgPool) {
    let cdn = Cdn::start().await;
    let app = start(pool, &cdn, 1).await;
    let mut late = app.pool.begin().await.expect("a transaction");
    sqlx::query("select cache_raise(array['product:1'])").execute(&mut *late).await.expect("a number");
    app.product(product()).await;
    settled(&app).await;
    assert_eq!(cdn.purged("product:1"), 0);
    late.commit().await.expect("a commit");
    purged(&cdn, "product:1").await;
}

#[sqlx::test]
async fn unknown_changes_purge_everything(pool: PgPool) {
    let cdn = Cdn::start().await;
    let mut app = start(pool, &cdn, 1).await;
    settled(&app).await;
    app.begin_shutdown();
    app.instance_mut(0).ended().await;
    for unknown in ["epoch = 'another'", "at = at - interval '2 hours'"] {
        cdn.forget();
        database::outside(&app.pool, &format!("update cdn_cursor set {unknown}")).await;
        let mut next = app.another().await;
        purged(&cdn, "*").await;
        settled(&app).await;
        next.begin_shutdown();
        next.ended().await;
    }
}
