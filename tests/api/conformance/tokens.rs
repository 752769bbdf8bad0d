//! `Consistency-Token`, which any client can make up. Such tokens cost no more than a budget of
//! loads, and the service repeats none of them.

use std::time::Instant;

use futures_util::future::join_all;
use reqwest::Method;
use sqlx::PgPool;

use super::table::{Table, check, row};
use crate::support::{TestApp, product};

const OWN: &str = "own document";

pub fn table() -> Table {
    let get = "GET /products/{product}";
    let bad = |row: super::table::Row| row.problem("invalid-parameter", 400).names("Consistency-Token");
    Table {
        topic: "Consistency tokens",
        settings: |_| {},
        rows: vec![
            row(OWN, "a token of this service is honoured")
                .request(get)
                .header("Consistency-Token", "{epoch}-{moment}")
                .status(200),
            bad(row(OWN, "a malformed one is refused").request(get).header("Consistency-Token", "yesterday")),
            bad(row(OWN, "two are refused")
                .request(get)
                .header("Consistency-Token", "{epoch}-1")
                .header("Consistency-Token", "{epoch}-2")),
            bad(row(OWN, "one of the future is refused")
                .request(get)
                .header("Consistency-Token", "{epoch}-{tomorrow}")),
            bad(row(OWN, "also for a list").request("GET /products").header("Consistency-Token", "{epoch}-{tomorrow}")),
            bad(row(OWN, "also for an order")
                .request("GET /orders/{order}")
                .header("Consistency-Token", "{epoch}-{tomorrow}")),
            row(OWN, "one of another epoch of the database is read from the database")
                .after("/products/{product}")
                .request(get)
                .header("Consistency-Token", "0123456789ab-{moment}")
                .status(200)
                .has("cache-status", "aside-l1; fwd=request"),
            row(OWN, "and none is repeated that isn't ours")
                .request(get)
                .header("Consistency-Token", "0123456789ab-{tomorrow}")
                .status(200)
                .contains("consistency-token", "{epoch}-"),
            row(OWN, "made-up tokens cost no more than a budget")
                .shown_by("tests/api/conformance/tokens.rs::made_up_tokens_cost_no_more_than_a_budget"),
        ],
    }
}

#[sqlx::test]
async fn tokens_are_ours_or_refused(pool: PgPool) {
    check(pool, table()).await;
}

#[sqlx::test]
async fn made_up_tokens_cost_no_more_than_a_budget(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let path = format!("/products/{id}");
    let token = app.get(&path).await.must_have("consistency-token");
    let (epoch, moment) = token.split_once('-').expect("an epoch and a moment");
    let moment: i64 = moment.parse().expect("microseconds");
    let read =
        async |token: String| app.send(app.request(Method::GET, &path).header("Consistency-Token", &token)).await;
    let begun = Instant::now();
    let replies = join_all((0..600).map(|at| read(format!("{at:012}-{moment}")))).await;
    // A load that gets no permit is refused.
    let loads = replies.iter().filter(|reply| !reply.cache_status().hit("l1")).count();
    assert!(replies.iter().all(|reply| reply.status == 200 || reply.status == 503));
    // The budget is fifty loads in each second of the run. A second that has only begun counts as a
    // whole one.
    let budget = 50 * (begun.elapsed().as_secs() as usize + 2);
    assert!(loads <= budget, "{loads} of 600 were loads, and {budget} may be");

    let before = app.metrics().await.sum("cache_requests_total", &[("pattern", "product")]);
    for _ in 0..20 {
        read(format!("{epoch}-{}", moment + 3_600_000_000)).await.problem("invalid-parameter", 400);
    }
    assert_eq!(app.metrics().await.sum("cache_requests_total", &[("pattern", "product")]), before, "nothing was read");
    let ahead = format!("{epoch}-{}", moment + 25_000_000);
    let reply = read(ahead.clone()).await;
    assert_ne!(reply.expect(200).must_have("consistency-token"), ahead, "it isn't ours");
}
