//! Clients that disconnect in the middle of a request. The service still finishes the write or the
//! load, and no tier is left stale.

use std::time::Duration;

use aside::app::database::serving_pool;
use aside_cache::{Cache, CacheConfig};
use sqlx::{PgPool, Row};

use crate::support::{Fault, Gate, Instance, TestApp, database, eventually, product, raw::json_request};

#[sqlx::test]
async fn a_change_whose_client_hangs_up_is_done_and_shown(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    app.get_product(id).await.expect(200);
    app.get_product(id).await.cache_status().expect_hit("l1");

    let gate = Gate::row(&app.pool, "products", id).await;
    let mut client = app.raw().await;
    client.send(&json_request("PATCH", &format!("/products/{id}"), r#"{"price_cents":250}"#)).await;
    gate.until_waiting(1).await;
    drop(client);
    service_noticed(&app).await;
    gate.open().await;

    let sql = format!("select price_cents from products where id = {id}");
    eventually("the change is committed", || async { (database::one(&app.pool, &sql).await == 250).then_some(()) })
        .await;
    eventually("the cached product shows the change", || async {
        (app.get_product(id).await.int("/price_cents") == 250).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn an_order_whose_client_hangs_up_is_placed_once_and_shown(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().stock(10)).await;
    assert_eq!(app.orders_of(749).await.ids(), [] as [i64; 0]);

    let gate = Gate::row(&app.pool, "products", id).await;
    let mut client = app.raw().await;
    let body = format!(r#"{{"customer_id":749,"items":[{{"product_id":{id},"quantity":3}}]}}"#);
    client.send(&json_request("POST", "/orders", &body)).await;
    gate.until_waiting(1).await;
    drop(client);
    service_noticed(&app).await;
    gate.open().await;

    eventually("the list shows the order", || async { (app.orders_of(749).await.ids().len() == 1).then_some(()) })
        .await;
    assert_eq!(app.get_product(id).await.int("/stock"), 7);
    assert_eq!(database::count(&app.pool, "orders").await, 1);
}

#[sqlx::test]
async fn a_load_whose_client_hangs_up_still_fills_the_cache(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let gate = Gate::table(&app.pool, "products").await;
    let mut client = app.raw().await;
    client.send(&json_request("GET", &format!("/products/{id}"), "")).await;
    gate.until_waiting(1).await;
    drop(client);
    service_noticed(&app).await;
    gate.open().await;
    eventually("the load has filled L1", || async {
        let path = format!("/products/{id}");
        let reply = app.get_with(&path, "cache-control", "only-if-cached").await;
        (reply.status == 200).then_some(())
    })
    .await;
}

/// Sends full exchanges on other connections. After them the service has also seen the end of the
/// dropped connection.
async fn service_noticed(app: &Instance) {
    for _ in 0..5 {
        app.get("/livez").await.expect(200);
    }
}

#[sqlx::test]
async fn a_transaction_whose_begin_was_cut_off_is_not_left_open(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut config = app.config.clone();
    config.database_connections = 1;
    let own = serving_pool(&config).await.expect("the service's pool");
    let cache = Cache::start(CacheConfig::default(), own.clone());
    let open = "select count(*) from pg_stat_activity where datname = current_database()
        and state = 'idle in transaction' and query like 'begin isolation%'";
    let mut tries = 0..20;
    loop {
        tries.next().expect("it is seen to be open while its answer is on the way");
        // The pool's connection must be open, and no other caller may use it.
        sqlx::query("select 1").execute(&own).await.expect("an answer");
        eventually("it is given back", || async { (own.inner().num_idle() == 1).then_some(()) }).await;
        app.database.set(Fault::Delay(Duration::from_millis(500)));
        let seen = async {
            eventually("it is open", || async { (database::one(&app.pool, open).await == 1).then_some(()) }).await
        };
        let seen = tokio::select! {
            _write = cache.begin() => false,
            () = seen => true,
        };
        app.database.restore();
        if seen {
            break;
        }
    }
    let sql = "select now() = statement_timestamp()";
    let idle: bool = sqlx::raw_sql(sql).fetch_one(&own).await.expect("an answer").get(0);
    assert!(idle, "whoever is next is inside of somebody else's transaction");
    cache.shutdown().await;
    own.inner().close().await;
}
