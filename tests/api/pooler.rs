//! PgBouncer in transaction mode between the service and Postgres. Its clients take turns in a few
//! sessions. The tests need a pgbouncer (`make pgbouncer`), and are skipped and counted without one.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{TestApp, database, eventually, order, pgbouncer, product, together};

/// More clients than sessions, so that statements of different clients meet in each session.
const CLIENTS: usize = 24;

#[sqlx::test]
async fn the_service_works_through_a_pooler_that_shares_sessions(pool: PgPool) {
    if pgbouncer::binary().is_none() {
        return;
    }
    let app = TestApp::builder(pool)
        .instances(2)
        .behind_pgbouncer()
        .config(|config| config.database_connections = 6)
        .build()
        .await;
    let ids = together((0..CLIENTS).map(|n| app.product(product().price(n as i64 + 1).stock(50)))).await;
    for round in 0..4 {
        let app = &app;
        together(ids.iter().enumerate().map(|(n, id)| async move {
            let price = 1_000 * round + n as i64;
            app.patch_product(*id, json!({ "price_cents": price })).await.expect(200);
            assert_eq!(app.get_product(*id).await.int("/price_cents"), price);
            let reloaded = app.get_with(&format!("/products/{id}"), "cache-control", "no-cache").await;
            assert_eq!(reloaded.int("/price_cents"), price);
            app.get("/products?category=NEW").await.expect(200);
            let number = app.order(order(n as i64 + 1).item(*id, 1)).await;
            assert!(app.orders_of(n as i64 + 1).await.ids().contains(&number));
            // Refusals end their transactions in other ways than writes do.
            app.get_product(i64::from(i32::MAX) + n as i64).await.expect(404);
            app.place_order(order(n as i64 + 1).item(*id, 1_000)).await.expect(409);
            app.patch_product(*id, json!({ "price_cents": price })).await.expect(200);
        }))
        .await;
        database::outside(&app.pool, "update products set price_cents = price_cents + 7").await;
        for (n, id) in ids.iter().enumerate() {
            eventually("the other instance polls the ledger beside the pooler", || async {
                (app.instance(1).get_product(*id).await.int("/price_cents") == 1_000 * round + n as i64 + 7)
                    .then_some(())
            })
            .await;
        }
    }
    app.get_product(ids[0]).await.expect(200);
    app.get_product(ids[0]).await.cache_status().expect_hit("l1");
}

#[sqlx::test]
async fn a_pooler_is_refused_by_name_without_a_direct_way(pool: PgPool) {
    if pgbouncer::binary().is_none() {
        return;
    }
    let app = TestApp::builder(pool).behind_pgbouncer().build().await;
    let mut config = app.config.clone();
    config.database_direct_url = None;
    config.migrate = false;
    let error = match aside::app::App::build(config).await {
        Ok(_) => panic!("the service starts without time limits"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("pooler") && error.contains("DATABASE_DIRECT_URL"), "{error}");
}
