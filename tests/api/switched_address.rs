//! The address of Postgres is switched to a promoted replica, while the old primary and all open
//! connections to it stay up. DNS and proxies do this.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{AssertSqlSafe, postgres::PgPoolOptions};

use crate::support::{Redis, Temporary, TestApp, eventually, postgres_server::Postgres, product, together};

/// The time after which the switch must be noticed. A check is due every second, and its connection
/// and a poll of the new server take some time on a busy machine.
const NOTICED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_switched_address_is_noticed_while_old_connections_stay_up() {
    let folder = Temporary::folder("switched-address");
    let mut old = Postgres::start(&folder).await;
    let new = old.replica().await;
    let pool = |server: &Postgres| {
        PgPoolOptions::new().max_connections(4).connect_lazy(&server.url(server.port)).expect("a URL of Postgres")
    };
    let app = TestApp::builder(pool(&old)).instances(2).redis(Redis::None).build().await;
    let id = app.product(product().price(1)).await;
    let path = format!("/products/{id}");
    // Several connections of each instance lead to the old server.
    for instance in [app.instance(0), app.instance(1)] {
        let loads = together((0..8).map(|_| instance.get_with(&path, "cache-control", "no-cache")));
        assert!(loads.await.iter().all(|reply| reply.int("/price_cents") == 1));
    }
    let promoted = pool(&new);
    let sql = format!("select price_cents from products where id = {id}");
    eventually("the product has reached the replica", || async {
        sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.as_str())).fetch_optional(&promoted).await.ok()?
    })
    .await;
    sqlx::query("select pg_promote()").execute(&promoted).await.expect("promoted");
    let epoch = app.get_product(id).await.must_have("consistency-token").to_owned();

    app.database.lead_to(format!("127.0.0.1:{}", new.port));
    let switched = Instant::now();
    let sql = format!("update products set price_cents = 2 where id = {id}");
    sqlx::query(AssertSqlSafe(sql)).execute(&promoted).await.expect("changed on the new primary");
    for instance in [app.instance(0), app.instance(1)] {
        eventually("the switch is noticed", || async {
            assert!(switched.elapsed() < NOTICED, "after {:?} the old server is still believed", switched.elapsed());
            (instance.get_product(id).await.int("/price_cents") == 2).then_some(())
        })
        .await;
        // No load uses a connection to the old server from now on, and none fails.
        let loads = together((0..16).map(|_| instance.get_with(&path, "cache-control", "no-cache")));
        assert!(loads.await.iter().all(|reply| reply.int("/price_cents") == 2));
        assert_eq!(instance.get_product(id).await.int("/price_cents"), 2);
    }
    app.patch_product(id, json!({ "price_cents": 3 })).await.expect(200);
    eventually("the other instance follows the new server", || async {
        (app.instance(1).get_product(id).await.int("/price_cents") == 3).then_some(())
    })
    .await;
    let there: i64 = sqlx::query_scalar("select max(price_cents)::bigint from products")
        .fetch_one(&promoted)
        .await
        .expect("a price");
    assert_eq!(there, 3, "writes reach the new server");
    assert_ne!(epoch.split('-').next(), app.get_product(id).await.must_have("consistency-token").split('-').next());
}
