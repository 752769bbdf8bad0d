//! The live page: its files, its stream and the data that it may show.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{TestApp, eventually, order, product};

const TOKEN: &str = "a-token-of-sufficient-length";

#[sqlx::test]
async fn the_page_names_no_other_host_and_needs_a_token_only_for_what_it_shows(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.management_token = Some(TOKEN.to_owned())).build().await;
    for file in
        ["/", "/page.js", "/stream.js", "/chart.js", "/key.js", "/words.js", "/uplot.js", "/page.css", "/uplot.css"]
    {
        let reply = app.manage(file).await;
        reply.expect(200);
        assert!(reply.must_have("content-security-policy").starts_with("default-src 'none'"), "{file}");
        for host in ["http://", "https://", "url("] {
            assert!(!reply.text.contains(host), "{file} names {host}");
        }
    }
    for route in ["/page.jsx", "/cache/live", "/cache/entry?name=product:1", "/cache/stats"] {
        app.manage(route).await.expect(401);
    }
}

#[sqlx::test]
async fn the_stream_brings_snapshots_and_changes_of_every_instance(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).build().await;
    let id = app.product(product()).await;
    let mut stream = Stream::of(&app).await;
    app.get_product(id).await.expect(200);
    app.get_product(id).await.expect(200);
    let snapshot =
        stream.next("snapshot", |data| data["stats"]["patterns"]["product"]["outcomes"]["l1_hit"] == 1).await;
    let counted = snapshot["latency"]["product"].as_array().expect("counts");
    assert_eq!(counted.iter().filter_map(Value::as_u64).sum::<u64>(), 2, "both reads have a time");
    assert_eq!(counted.len(), snapshot["bounds_us"].as_array().expect("bounds").len() + 1);

    app.instance(1).patch_product(id, json!({ "price_cents": 9 })).await.expect(200);
    stream.next("change", |data| data["name"] == format!("product:{id}")).await;
    app.instance(1).order(order(749).item(id, 1)).await;
    let change =
        stream.next("change", |data| data["name"].as_str().is_some_and(|name| name.starts_with("order"))).await;
    assert!(!change.to_string().contains("749"), "a customer is named: {change}");
}

#[sqlx::test]
async fn a_page_that_is_opened_later_has_what_was_before(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.cache_warm_top = 1).build().await;
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    app.get_product(id).await.expect(200);
    app.order_management("/cache/invalidate", json!({ "pattern": "product" })).await.expect(200);
    app.order_management("/cache/warm", Value::Null).await.expect(200);
    let of = |kind: &'static str| move |event: &Value| event["kind"] == kind;
    eventually("the seconds and the events are in the history of a new page", || async {
        let mut stream = Stream::of(&app).await;
        let before = stream.next("history", |_| true).await;
        assert_eq!(before["sources"][0], "l1");
        let seconds = before["seconds"].as_array().expect("seconds");
        let hits: u64 = seconds.iter().filter_map(|second| second["reads"][0].as_u64()).sum();
        let events = stream.next("snapshot", |_| true).await["events"].as_array().cloned().expect("events");
        let [invalidated, warmed] = ["invalidated", "warmed"].map(|kind| events.iter().find(|one| of(kind)(one)));
        let told = invalidated.is_some_and(|event| event["text"] == "product invalidated") && warmed.is_some();
        (hits == 1 && told).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn the_sentence_says_since_when_a_dependency_is_away_and_what_failed(pool: PgPool) {
    let app =
        TestApp::builder(pool).config(|config| config.cache_max_staleness = Duration::from_millis(500)).build().await;
    let mut stream = Stream::of(&app).await;
    stream.next("snapshot", |data| data["headline"]["state"] == "good").await;
    app.cut_database();
    let snapshot = stream.next("snapshot", |data| data["headline"]["state"] == "bad").await;
    let text = snapshot["headline"]["text"].as_str().expect("a sentence");
    assert!(text.starts_with("Postgres is unreachable"), "{text}");
    let lost = snapshot["events"].as_array().expect("events").iter().any(|event| event["text"] == "Postgres lost");
    assert!(lost, "{snapshot}");
    app.restore_database();
    stream.next("snapshot", |data| data["headline"]["state"] == "good").await;
}

#[sqlx::test]
async fn a_price_is_changed_and_each_instance_says_how_long_the_change_took(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).build().await;
    let id = app.product(product().with("price_cents", 94)).await;
    let change = || app.order_management("/cache/demonstration", json!({ "product": id }));
    let told = change().await;
    assert_eq!((told.int("/price_cents_before"), told.int("/price_cents")), (94, 95));
    assert_eq!(app.get_product(id).await.int("/price_cents"), 95);
    let tag = format!("product:{id}");
    let mut stream = Stream::of(&app).await;
    let both = |data: &Value| {
        let timed = |one: &Value| one["timed"]["tag"] == tag && one["timed"]["version"] == told.int("/version");
        data["instances"].as_array().is_some_and(|all| all.len() == 2 && all.iter().all(timed))
    };
    let snapshot = stream.next("snapshot", both).await;
    assert_eq!(snapshot["instances"][0]["timed"]["after_ms"], 0, "the writer has it with its commit");
    assert!(snapshot["instances"][1]["timed"]["after_ms"].as_u64() > Some(0), "the other one learns of it");
    // The price stays within a cent.
    assert_eq!(change().await.int("/price_cents"), 94);
    for (body, status) in [(json!({ "product": 7 }), 404), (json!({ "product": "x" }), 422), (json!({}), 422)] {
        app.order_management("/cache/demonstration", body).await.expect(status);
    }
}

#[sqlx::test]
async fn a_key_is_looked_up_without_its_value(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().name("Nobody's business")).await;
    let path = format!("/cache/entry?name=product:{id}");
    assert_eq!(app.manage(&path).await.at("/l1"), Value::Null);
    app.get_product(id).await.expect(200);
    let known = app.manage(&path).await;
    assert!(known.int("/l1/bytes") > 0 && known.int("/l1/age_ms") >= 0 && known.int("/l1/version") >= 0);
    assert_eq!((known.at("/l1/served"), known.at("/l1/reason")), (json!(true), json!("fresh")));
    eventually("Redis has an entry too", || async {
        let known = app.manage(&path).await;
        (known.at("/l2/served") == true && known.at("/ledger").is_i64()).then_some(())
    })
    .await;
    assert!(!known.text.contains("business"));
    app.order_management("/cache/invalidate", json!({ "pattern": "product" })).await.expect(200);
    let known = app.manage(&path).await;
    assert_eq!(known.at("/l1/served"), false, "it is there, and of no use any more");
    assert_eq!(known.at("/l1/reason"), "invalidated");
    app.patch_product(id, json!({ "price_cents": 9 })).await.expect(200);
    eventually("the change has raised a floor", || async {
        app.manage(&path).await.at("/floor").is_i64().then_some(())
    })
    .await;
    for wrong in ["nothing:1", "product:", "product:%00"] {
        app.manage(&format!("/cache/entry?name={wrong}")).await.expect(422);
    }
    for wrong in ["", "?nam=product:1", "?name=product:1&name=product:2", "?name=product:1&x=1"] {
        let refused = app.manage(&format!("/cache/entry{wrong}")).await;
        assert!(refused.expect(400).at("/detail").is_string(), "{wrong}");
    }
}

#[sqlx::test]
async fn every_instance_is_shown_from_its_start_to_its_end(pool: PgPool) {
    let app = TestApp::builder(pool).build().await;
    let mut other = app.another_with(|config| config.instance_name = Some("the-other".to_owned())).await;
    let mut stream = Stream::of(&app).await;
    let named = |data: &Value| {
        let all = data["instances"].as_array().expect("instances").iter();
        all.map(|one| one["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let snapshot = stream.next("snapshot", |data| data["instances"][1]["phase"] == "ready").await;
    assert_eq!(named(&snapshot), [app.address.to_string(), "the-other".to_owned()], "this one first");
    for (field, expected) in [("region", json!("test")), ("this", json!(false)), ("l2_breaker", json!("closed"))] {
        assert_eq!(snapshot["instances"][1][field], expected, "{field}");
    }
    stream.next("snapshot", |data| data["instances"][1]["is_current"] == true).await;
    other.begin_shutdown();
    other.ended().await;
    stream.next("snapshot", |data| named(data).len() == 1).await;
}

/// The events of `/cache/live`.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn of(app: &TestApp) -> Self {
        let response = reqwest::get(format!("http://{}/cache/live", app.management)).await.expect("a stream");
        assert_eq!(response.status(), 200);
        Self { response, text: String::new() }
    }

    /// Returns the data of the next event of this kind that `wanted` accepts.
    async fn next(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
                let data: Value = serde_json::from_str(field("data:")).unwrap_or_default();
                let found = field("event:") == kind && wanted(&data);
                self.text = rest.to_owned();
                if found {
                    return data;
                }
            }
            let chunk = tokio::time::timeout(crate::support::PATIENCE, self.response.chunk());
            let chunk = chunk.await.expect("an event in time").expect("a stream").expect("it goes on");
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}
