//! Several instances over one database. A change by one of them shows on the others within the
//! promised time.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgPool;

use crate::support::{Fault, Gate, Proxy, Redis, TestApp, eventually::within, order, product, settings::L2_DEADLINE};

/// The promised bound D. `SLACK` is the time that the test's own requests may take on a busy
/// machine.
const PROMISED: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_millis(1_500);

#[sqlx::test]
async fn a_change_through_one_instance_shows_on_the_other_within_the_promised_time(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).max_staleness(PROMISED).build().await;
    shows_elsewhere_in_time(&app).await;
}

#[sqlx::test]
async fn the_promised_time_holds_without_redis(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).max_staleness(PROMISED).redis(Redis::None).build().await;
    shows_elsewhere_in_time(&app).await;
}

#[sqlx::test]
async fn the_promised_time_holds_while_redis_hangs(pool: PgPool) {
    let server = crate::support::RedisServer::shared();
    let line = std::sync::Arc::new(Proxy::before(server.address().to_string()).await);
    let redis = Redis::Behind(line.clone());
    let app =
        TestApp::builder(pool).instances(2).max_staleness(PROMISED).redis(redis).l2_deadline(L2_DEADLINE).build().await;
    line.set(Fault::BlackHole);
    shows_elsewhere_in_time(&app).await;
}

#[sqlx::test]
async fn an_instance_shows_its_own_change_at_once(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).build().await;
    let id = app.product(product().price(1)).await;
    for price in 2..12 {
        let writer = app.instance(price as usize % 2);
        writer.get_product(id).await.expect(200);
        writer.patch_product(id, json!({ "price_cents": price })).await.expect(200);
        assert_eq!(writer.get_product(id).await.int("/price_cents"), price);
    }
}

/// The test repeats this often, because a poll may tell the other instance of the first one's
/// change.
#[sqlx::test]
async fn an_instance_that_acknowledges_what_another_has_done_shows_it(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).redis(Redis::None).build().await;
    let (id, other) = (app.product(product().price(1)).await, app.instance(1));
    for price in 2..22 {
        other.get_product(id).await.expect(200);
        app.patch_product(id, json!({ "price_cents": price })).await.expect(200);
        other.patch_product(id, json!({ "price_cents": price })).await.expect(200);
        assert_eq!(other.get_product(id).await.int("/price_cents"), price, "the same change again");

        let (key, customer) = (format!("key-{price}"), 100 + price);
        assert_eq!(other.orders_of(customer).await.ids(), [] as [i64; 0]);
        app.place_order_once(&key, order(customer).item(id, 1)).await.expect(201);
        let again = other.place_order_once(&key, order(customer).item(id, 1)).await;
        assert_eq!(other.orders_of(customer).await.ids(), [again.int("/id")], "the same order again");
    }
}

#[sqlx::test]
async fn an_order_through_one_instance_shows_in_the_list_of_the_other(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).build().await;
    let id = app.product(product()).await;
    let other = app.instance(1);
    assert_eq!(other.orders_of(5).await.ids(), [] as [i64; 0]);
    let placed = app.order(order(5).item(id, 1)).await;
    within(PROMISED + SLACK, "the other instance lists the order", || async {
        (other.orders_of(5).await.ids() == [placed]).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn a_load_that_was_overtaken_by_a_change_is_never_served_to_later_readers(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    // The change waits for the row's lock, so a load overtakes it. The load reads the old price and
    // stores it in the tiers.
    let gate = Gate::row(&app.pool, "products", id).await;
    let change = app.patch_product(id, json!({ "price_cents": 200 }));
    let overtaken = async {
        gate.until_waiting(1).await;
        assert_eq!(app.get_product(id).await.int("/price_cents"), 100, "not committed yet");
        gate.open().await;
    };
    let (changed, ()) = tokio::join!(change, overtaken);
    changed.expect(200);
    assert_eq!(app.get_product(id).await.int("/price_cents"), 200);
}

#[sqlx::test]
async fn an_instance_cut_off_from_postgres_stops_using_its_tiers_within_the_promised_time(pool: PgPool) {
    let app = TestApp::builder(pool).max_staleness(PROMISED).build().await;
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    app.database.set(Fault::BlackHole);
    within(PROMISED + SLACK, "reads are refused rather than served", || async {
        let asked = tokio::time::timeout(Duration::from_millis(200), app.get_product(id)).await;
        asked.map_or(Some(()), |reply| (reply.status == 503).then_some(()))
    })
    .await;
}

async fn shows_elsewhere_in_time(app: &TestApp) {
    let id = app.product(product().price(100)).await;
    let other = app.instance(1);
    for price in [200, 300, 400] {
        other.get_product(id).await.expect(200);
        app.patch_product(id, json!({ "price_cents": price })).await.expect(200);
        let acknowledged = Instant::now();
        within(PROMISED + SLACK, "the other instance shows the new price", || async {
            (other.get_product(id).await.int("/price_cents") == price).then_some(())
        })
        .await;
        let seen = acknowledged.elapsed();
        // From here on the price never goes back.
        for _ in 0..5 {
            assert_eq!(other.get_product(id).await.int("/price_cents"), price, "went back after {seen:?}");
        }
    }
}
