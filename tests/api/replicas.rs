//! Loads on a replica of Postgres. The service uses the replica while it is up to date, rejects its
//! answers while it lags, and works without it.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

use crate::support::{Temporary, TestApp, database, eventually, order, postgres_server::Postgres, product};

/// A primary, its replica, and two instances without tiers, so that every read is a load.
struct Fixture {
    app: TestApp,
    /// A pool of the replica.
    standby: PgPool,
    replica: Postgres,
    primary: Postgres,
    /// The servers' folder. It is dropped last, because the servers write into it until they end.
    _folder: Temporary,
}

impl Fixture {
    async fn prepare() -> Self {
        let folder = Temporary::folder("replicas");
        let mut primary = Postgres::start(&folder).await;
        let replica = primary.replica().await;
        let pool = |url: String| PgPoolOptions::new().max_connections(4).connect_lazy(&url).expect("a URL of Postgres");
        let standby = pool(replica.url(replica.port));
        let url = replica.url(replica.port);
        let app = TestApp::builder(pool(primary.url(primary.port)))
            .instances(2)
            .redis(crate::support::Redis::None)
            .l1_bytes(0)
            .config(move |config| config.database_read_url = Some(url.clone()))
            .build()
            .await;
        let fixture = Self { app, standby, replica, primary, _folder: folder };
        let id = fixture.app.product(product()).await;
        fixture.is_used(id).await;
        fixture
    }

    /// Waits until reads come from the replica. A change that only the primary has makes this
    /// visible.
    async fn is_used(&self, id: i64) {
        eventually("the replica is used", || async {
            self.told("select pg_wal_replay_resume()").await;
            let now = self.app.get_product(id).await.expect(200).int("/price_cents");
            let there = format!("select price_cents from products where id = {id}");
            let there = sqlx::query_scalar::<_, i64>(AssertSqlSafe(there)).fetch_optional(&self.standby).await;
            (there.ok()? == Some(now)).then_some(())?;
            self.told("select pg_wal_replay_pause()").await;
            database::sabotage(
                &self.app.pool,
                &format!("update products set price_cents = {} where id = {id}", now + 1),
            )
            .await;
            let read = self.app.get_product(id).await.int("/price_cents");
            self.told("select pg_wal_replay_resume()").await;
            (read == now).then_some(())
        })
        .await;
    }

    /// Counts the first instance's loads on the replica with this result.
    async fn loads(&self, result: &str) -> f64 {
        self.app.metrics().await.sum("replica_loads_total", &[("result", result)])
    }

    async fn told(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.standby).await.expect("the replica obeys");
    }
}

#[tokio::test]
async fn a_replica_that_is_behind_is_never_served() {
    let fixture = Fixture::prepare().await;
    let app = &fixture.app;
    let id = app.product(product().price(1).stock(10)).await;
    fixture.is_used(id).await;
    fixture.told("select pg_wal_replay_pause()").await;
    for price in 100..110 {
        app.patch_product(id, json!({ "price_cents": price })).await.expect(200);
        assert_eq!(app.get_product(id).await.int("/price_cents"), price);
        let token = app.get_product(id).await.header("consistency-token").expect("a token").to_owned();
        let other = app.instance(1);
        let read = other
            .send(other.request(reqwest::Method::GET, &format!("/products/{id}")).header("consistency-token", token))
            .await;
        assert_eq!(read.int("/price_cents"), price, "through another instance, with a token");
    }
    // The replica does not have this product.
    let new = app.product(product().price(7)).await;
    assert_eq!(app.get_product(new).await.int("/price_cents"), 7);
    assert_eq!(app.get(&format!("/products/batch?ids={new},{id}")).await.ids(), [new, id]);
    let number = app.order(order(1).item(id, 1)).await;
    assert!(app.orders_of(1).await.ids().contains(&number));
    assert_eq!(app.get_order(number).await.int("/id"), number);
    eventually("the other instance has heard of it too", || async {
        app.instance(1).orders_of(1).await.ids().contains(&number).then_some(())
    })
    .await;
    assert!(fixture.loads("behind").await > 0.0, "it was asked, and not believed");
    fixture.told("select pg_wal_replay_resume()").await;
    fixture.is_used(id).await;
}

#[tokio::test]
async fn a_replica_that_hangs_dies_or_is_promoted_fails_no_read() {
    let mut fixture = Fixture::prepare().await;
    let id = fixture.app.product(product().price(1)).await;
    fixture.is_used(id).await;
    assert!(fixture.loads("used").await > 0.0);
    let mut price = 1_000;
    for fall in ["frozen", "promoted", "dead"] {
        let failed = fixture.loads("failed").await;
        match fall {
            "frozen" => fixture.replica.signal("STOP"),
            "promoted" => {
                fixture.replica.signal("CONT");
                // The statement does not wait, because Postgres may cancel a waiting statement
                // during the replay.
                eventually("the replica is promoted", || async {
                    let sql = "select pg_is_in_recovery() and pg_promote(wait => false) is not null";
                    let waits: Option<bool> = sqlx::query_scalar(sql).fetch_one(&fixture.standby).await.ok();
                    (waits == Some(false)).then_some(())
                })
                .await;
                // The promoted server continues on its own, and its tag versions are higher than
                // those of the primary.
                for _ in 0..50 {
                    fixture.told("update products set price_cents = price_cents + 1").await;
                }
            }
            _ => fixture.replica.stop(true).await,
        }
        for _ in 0..20 {
            price += 1;
            fixture.app.patch_product(id, json!({ "price_cents": price })).await.expect(200);
            assert_eq!(fixture.app.get_product(id).await.int("/price_cents"), price, "{fall}");
            assert_eq!(fixture.app.get(&format!("/products/batch?ids={id}")).await.ids(), [id], "{fall}");
        }
        // The service must have asked the replica in that state, and not only have avoided it.
        eventually("the replica is asked again", || async {
            assert_eq!(fixture.app.get_product(id).await.int("/price_cents"), price, "{fall}");
            (fixture.loads("failed").await > failed).then_some(())
        })
        .await;
    }
    // The service cannot do without the primary.
    fixture.primary.stop(true).await;
    fixture.app.get_product(id).await.expect(503);
}
