//! A Postgres that runs and refuses connections. Requests that need it get 503 with Retry-After for
//! any reason of the refusal, as if Postgres were down. The catalogue is answered stale.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection, postgres::PgPoolOptions};

use crate::support::{Reply, Temporary, TestApp, eventually, order, postgres_server::Postgres, product};

/// An SQLSTATE, the statements that make Postgres refuse the service with it, and the statements
/// that undo them.
type Refusal = (&'static str, &'static [&'static str], &'static [&'static str]);

const REFUSALS: [Refusal; 6] = [
    ("28000", &["alter role clerk nologin"], &["alter role clerk login"]),
    ("28P01", &["alter role clerk password 'rotated'"], &["alter role clerk password 'secret'"]),
    ("53300", &["alter role clerk connection limit 0"], &["alter role clerk connection limit -1"]),
    ("42501", &["revoke connect on database aside from public, clerk"], &["grant connect on database aside to public"]),
    (
        "55000",
        &["alter database aside with allow_connections false"],
        &["alter database aside with allow_connections true"],
    ),
    (
        "3D000",
        &[
            "alter database aside with allow_connections false",
            END_SESSIONS,
            "alter database aside rename to elsewhere",
        ],
        &["alter database elsewhere rename to aside", "alter database aside with allow_connections true"],
    ),
];

/// The statement that ends existing sessions, because they outlive most refusals.
const END_SESSIONS: &str = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = 'aside'";

/// A server that belongs to the test, a service that logs in with a password, and an operator whom
/// Postgres never refuses.
struct Fixture {
    app: TestApp,
    operator: PgConnection,
    postgres: Postgres,
    warm: i64,
    cold: i64,
    placed: i64,
    /// The server's folder. It is dropped last, because the server writes into it until it ends.
    _folder: Temporary,
}

impl Fixture {
    async fn prepare() -> Self {
        let folder = Temporary::folder("refusals");
        let postgres = Postgres::start(&folder).await;
        let mut operator = operator(&postgres).await;
        let rules = folder.join("postgres/data/pg_hba.conf");
        let trusting = fs::read_to_string(&rules).expect("the rules of logging in");
        fs::write(&rules, format!("host all clerk 127.0.0.1/32 scram-sha-256\n{trusting}")).expect("a rule more");
        let clerk = ["create role clerk login password 'secret'", "alter database aside owner to clerk"];
        for sql in clerk.into_iter().chain(["select pg_reload_conf()"]) {
            sqlx::query(sql).execute(&mut operator).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let url = service_url(&postgres);
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&url).expect("a URL of Postgres");
        let app = TestApp::builder(pool)
            .max_staleness(Duration::from_millis(200))
            .config(|config| config.request_timeout = Duration::from_secs(2))
            .build()
            .await;
        let (warm, cold) = (app.product(product().price(100)).await, app.product(product()).await);
        let placed = app.order(order(1).item(warm, 1)).await;
        Self { app, operator, postgres, warm, cold, placed, _folder: folder }
    }

    /// Sends all requests that need a connection. No answer to them is cached or may be stale.
    async fn ask(&self) -> Vec<Reply> {
        let Self { app, warm, cold, placed, .. } = self;
        let reads = [
            format!("/products/{cold}"),
            format!("/products/batch?ids={cold}"),
            "/products?category=TROPICAL%20FRUIT&limit=7".into(),
            format!("/orders/{placed}"),
            "/orders?customer_id=1".into(),
        ];
        let mut requests: Vec<_> = reads.iter().map(|path| app.request(Method::GET, path)).collect();
        let (single, new) = (format!("/products/{warm}"), serde_json::Value::from(product()));
        requests.push(app.request(Method::POST, "/products").json(&new));
        requests.push(app.request(Method::PATCH, &single).json(&json!({ "price_cents": 1 })));
        requests.push(app.request(Method::DELETE, &single));
        let new = serde_json::Value::from(order(1).item(*warm, 1));
        requests.push(app.request(Method::POST, "/orders").json(&new));
        requests.push(app.request(Method::PATCH, &format!("/orders/{placed}")).json(&json!({ "status": "confirmed" })));
        join_all(requests.into_iter().map(|request| app.send(request))).await
    }

    /// Checks that all these requests are refused as the same outage, and that the catalogue is
    /// answered stale.
    async fn is_unavailable(&self, why: &str) {
        // Before this, L1 may still answer orders.
        eventually("the ledger is not followed any more", || async {
            (self.app.metrics().await.sum("cache_is_current", &[]) == 0.0).then_some(())
        })
        .await;
        for reply in self.ask().await {
            assert_eq!(reply.status, 503, "{why}: {reply:#?}");
            reply.problem("unavailable", 503);
            assert!(reply.must_have("retry-after").parse::<u32>().is_ok(), "{why}: {reply:#?}");
            for secret in ["secret", "clerk", "SQLSTATE"] {
                assert!(!reply.text.contains(secret), "{why}: Postgres' words stay inside: {reply:#?}");
            }
        }
        self.app.get("/readyz").await.expect(503);
        for path in [format!("/products/{}", self.warm), format!("/products/batch?ids={}", self.warm)] {
            let stale = eventually("the catalogue is answered stale", || async {
                let reply = self.app.get(&path).await;
                let is_stale =
                    reply.header("cache-status").is_some_and(|status| status.contains("detail=database-away"));
                (is_stale || reply.status != 200).then_some(reply)
            })
            .await;
            assert_eq!(stale.expect(200).must_have("cache-control"), "no-store", "{why}");
        }
    }

    /// Checks that all requests work again and that no refused write was done.
    async fn is_well(&self, why: &str) {
        eventually("the database is used again", || async {
            (self.app.get_order(self.placed).await.status == 200).then_some(())
        })
        .await;
        eventually("the instance is ready", || self.app.is_current()).await;
        // On a busy machine, a new connection may not be ready in time for the first request.
        for path in [format!("/products/{}", self.warm), "/orders?customer_id=1".into()] {
            eventually("what was refused is answered", || async {
                (self.app.get(&path).await.status == 200).then_some(())
            })
            .await;
        }
        assert_eq!(self.app.get_order(self.placed).await.at("/status"), "pending", "{why}");
        assert_eq!(self.app.get_product(self.warm).await.int("/price_cents"), 100, "{why}");
        assert_eq!(self.app.orders_of(1).await.ids(), [self.placed], "{why}");
        // These reads have cached the products, but the next round needs products that are not
        // cached.
        for id in [self.warm, self.cold] {
            eventually("a write is answered", || async {
                (self.app.patch_product(id, json!({ "package_size": why })).await.status == 200).then_some(())
            })
            .await;
        }
        self.app.get_product(self.warm).await.expect(200);
        self.app.get(&format!("/products/batch?ids={}", self.warm)).await.expect(200);
    }
}

fn service_url(postgres: &Postgres) -> String {
    format!("postgres://clerk:secret@127.0.0.1:{}/aside", postgres.port)
}

async fn operator(postgres: &Postgres) -> PgConnection {
    let url = format!("postgres://aside@127.0.0.1:{}/postgres", postgres.port);
    PgConnection::connect(&url).await.expect("a superuser is let in")
}

async fn code_of_a_login(postgres: &Postgres) -> Option<String> {
    let refused = PgConnection::connect(&service_url(postgres)).await.err()?;
    refused.as_database_error().and_then(|error| error.code()).map(String::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_refuses_logins_is_unavailable_whatever_its_reason() {
    let mut fixture = Fixture::prepare().await;
    fixture.is_well("at first").await;
    for (code, refuse, allow) in REFUSALS {
        for sql in refuse.iter().copied().chain([END_SESSIONS]) {
            sqlx::query(sql).execute(&mut fixture.operator).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        assert_eq!(code_of_a_login(&fixture.postgres).await.as_deref(), Some(code), "{refuse:?}");
        fixture.is_unavailable(code).await;
        for sql in allow {
            sqlx::query(*sql).execute(&mut fixture.operator).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        fixture.is_well(code).await;
    }

    // The server accepts no new sessions and waits until the operator has disconnected.
    fixture.postgres.signal_server("TERM");
    eventually("it refuses logins", || async {
        (code_of_a_login(&fixture.postgres).await.as_deref() == Some("57P03")).then_some(())
    })
    .await;
    sqlx::query(END_SESSIONS).execute(&mut fixture.operator).await.expect("the sessions are ended");
    fixture.is_unavailable("57P03").await;
    fixture.postgres.restart(false).await;
    fixture.is_well("57P03").await;
}
