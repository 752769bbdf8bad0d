//! Audit records of accesses to orders. A record names the caller and its address, but no data of
//! the order.

use std::{cell::Cell, fs, path::Path, process::Command};

use aside::{app::start_services, audit::Audit, domain::DomainError};
use aside_cache::{CacheMode, Tag, Tenant};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    Temporary, TestApp, eventually, order, product,
    tokens::{SECRET, token},
};

#[sqlx::test]
async fn every_access_to_an_order_leaves_a_record(pool: PgPool) {
    // The file is in a folder, because an instance that has not ended yet creates a deleted file
    // again.
    let folder = Temporary::folder("audit");
    let file = folder.join("audit.jsonl");
    let path = file.clone();
    let app = TestApp::builder(pool)
        .config(move |config| {
            config.jwt_secret = Some(SECRET.into());
            config.audit_log = Some(path.clone());
        })
        .build()
        .await;
    let (acme, other) = (token("acme").signed(), token("other").signed());
    let create = app.request(reqwest::Method::POST, "/products").json(&Value::from(product().name("Secret tea")));
    let product = app.send(create.bearer_auth(&acme)).await.expect(201).int("/id");
    let place = app.request(reqwest::Method::POST, "/orders").json(&Value::from(order(987_654).item(product, 1)));
    let id = app.send(place.bearer_auth(&acme)).await.expect(201).int("/id");
    let get = |path: String, token: &str, request: &str| {
        app.send(app.request(reqwest::Method::GET, &path).bearer_auth(token).header("x-request-id", request))
    };
    get(format!("/orders/{id}"), &acme, "first").await.expect(200);
    get(format!("/orders/{id}"), &acme, "second").await.expect(200);
    let in_redis = eventually("it is in Redis", || async {
        let entries = app.redis_keys().await.entries().await;
        entries.into_keys().find(|key| key.contains(":order:"))
    })
    .await;
    get("/orders?customer_id=987654".into(), &acme, "third").await.expect(200);
    get(format!("/orders/{id}"), &other, "fourth").await.expect(404);
    get(format!("/orders/{id}"), "rubbish", "fifth").await.expect(401);
    let weak = token("acme").with("scope", "orders:write products:write").signed();
    get("/orders?customer_id=987654".into(), &weak, "weak").await.expect(403);
    let change = app.request(reqwest::Method::PATCH, "/orders/1").json(&json!({ "status": "confirmed" }));
    app.send(change.bearer_auth(&acme)).await.expect(404);
    let unsaid = app.request(reqwest::Method::DELETE, &format!("/products/{product}"));
    app.send(unsaid).await.expect(401);
    get(format!("/products/{product}"), &acme, "sixth").await.expect(200);
    let change = app.request(reqwest::Method::PATCH, &format!("/orders/{id}")).json(&json!({ "status": "confirmed" }));
    app.send(change.bearer_auth(&acme)).await.expect(200);
    app.order_management("/cache/invalidate", json!({ "pattern": "order" })).await.expect(200);
    app.order_management("/cache/invalidate", json!({ "tenant": "acme" })).await.expect(200);
    app.order_management("/cache/erase", json!({ "tenant": "other" })).await.expect(200);

    let records = eventually("all is written", || async {
        let records = records(&file);
        (records.len() == 12).then_some(records)
    })
    .await;
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().expect("a text").to_owned();
            (text("tenant"), text("operation"), text("outcome"))
        })
        .collect();
    let expected = [
        ("acme", "place", "done"),
        ("acme", "read", "loaded_cold"),
        ("acme", "read", "l1_hit"),
        ("acme", "list", "loaded_cold"),
        ("other", "read", "absent"),
        ("", "read", "refused"),
        ("acme", "list", "refused"),
        ("acme", "change", "absent"),
        ("acme", "change", "done"),
        ("", "invalidate", "done"),
        ("acme", "invalidate", "done"),
        ("other", "erase", "done"),
    ];
    assert_eq!(seen, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    assert_eq!(records[1]["request_id"], "first");
    assert_eq!(records[1]["subject"], "somebody-of-acme");
    assert_eq!(records[0]["key"], records[1]["key"]);
    assert_ne!(records[1]["key"], records[4]["key"], "the same number of another tenant is another key");
    let refused = [&records[5], &records[6]].map(|record| (record["subject"].as_str(), record["request_id"].as_str()));
    let known = [(Some(""), Some("fifth")), (Some("somebody-of-acme"), Some("weak"))];
    assert_eq!(refused, known, "nobody is named who was not verified");
    let key = records[1]["key"].as_str().expect("a key").to_owned();
    let text = fs::read_to_string(&file).expect("the file");
    for clear in ["987654", "Secret tea", &id.to_string()] {
        assert!(!text.contains(clear), "{clear} stands in {text}");
    }
    assert!(in_redis.ends_with(&key), "{key} leads to {in_redis}");

    let (whole, said) = verify(&file, &[]);
    assert!(whole, "it is what was written: {said}");
    let head = said.split_whitespace().last().expect("the head").to_owned();
    assert!(verify(&file, &["--head", &head]).0, "{head}");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&file, lines[..11].join("\n")).expect("without the last");
    assert!(
        verify(&file, &[]).0 && !verify(&file, &["--head", &head]).0,
        "only the head tells that the end was cut off"
    );
    fs::write(&file, [&lines[..2], &lines[3..]].concat().join("\n")).expect("without the third");
    assert!(!verify(&file, &[]).0);
    fs::write(&file, lines[2..].join("\n")).expect("without the first two");
    assert!(!verify(&file, &[]).0);
    let before = format!("2:{}", records[2]["previous"].as_str().expect("a hash"));
    assert!(verify(&file, &["--after", &before, "--head", &head]).0);
}

#[sqlx::test]
async fn a_tenant_that_is_told_to_wait_is_recorded(pool: PgPool) {
    // The file is in a folder, because an instance that has not ended yet creates a deleted file
    // again.
    let folder = Temporary::folder("audit");
    let file = folder.join("audit.jsonl");
    let path = file.clone();
    let app = TestApp::builder(pool)
        .config(move |config| {
            config.jwt_secret = Some(SECRET.into());
            config.audit_log = Some(path.clone());
            config.tenant_requests_per_second = 1;
        })
        .build()
        .await;
    let acme = token("acme").signed();
    let waits = Cell::new(0);
    eventually("the tenant is told to wait a hundred times", || async {
        let read = app.request(reqwest::Method::GET, "/orders?customer_id=1").bearer_auth(&acme);
        waits.set(waits.get() + usize::from(app.send(read).await.status == 429));
        (waits.get() == 100).then_some(())
    })
    .await;
    // Records are written in order, so the records of all refusals precede this one.
    app.request(reqwest::Method::GET, "/orders/1")
        .bearer_auth(token("other").signed())
        .send()
        .await
        .expect("an answer");
    eventually("another tenant's read is written", || async {
        records(&file).iter().any(|record| record["tenant"] == "other").then_some(())
    })
    .await;
    let refused = |record: &Value| record["outcome"] == "refused" && record["subject"] == "somebody-of-acme";
    let written = records(&file).iter().filter(|record| refused(record)).count();
    assert!((1..50).contains(&written), "{written}: one a second, not every one, which would fill the disk");
}

/// The listeners record the accesses of requests. Other code of the service has no record of its
/// own.
#[sqlx::test]
async fn an_access_that_no_request_makes_is_recorded_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let folder = Temporary::folder("audit");
    let file = folder.join("audit.jsonl");
    let (audit, _thread) = Audit::start(&file).expect("the file opens");
    let services = start_services(&app.config, app.pool.clone().into(), Some(audit.clone())).expect("services");
    let demo = Tenant::parse("demo").expect("a tenant");
    let read = services.orders.get_order(&demo, 1, CacheMode::Default).await;
    assert!(matches!(read, Err(DomainError::NotFound { .. })), "{read:?}");
    services.cache.invalidate([Tag::of_tenant("order", &demo, 1), Tag::new("product", 1)]).await.expect("a commit");
    tokio::task::spawn_blocking(move || audit.flush()).await.expect("all is written");
    services.cache.shutdown().await;

    let text = |record: &Value, name: &str| record[name].as_str().expect("a text").to_owned();
    let seen: Vec<_> = records(&file)
        .iter()
        .map(|record| ["tenant", "subject", "operation", "outcome"].map(|name| text(record, name)).join(" "))
        .collect();
    assert_eq!(seen, ["demo service read absent", "demo service invalidate done"]);
}

#[sqlx::test]
async fn a_full_disk_loses_records_and_no_request(pool: PgPool) {
    let app = TestApp::builder(pool).config(|config| config.audit_log = Some("/dev/full".into())).build().await;
    let product = app.product(product()).await;
    let id = app.order(order(749).item(product, 1)).await;
    for _ in 0..50 {
        app.get_order(id).await.expect(200);
    }
    eventually("all losses are counted", || async {
        let metrics = app.metrics().await;
        let counted = ["audit_records_written_total", "audit_records_lost_total"].map(|name| metrics.sum(name, &[]));
        (counted == [0.0, 51.0]).then_some(())
    })
    .await;
}

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Runs `aside audit verify`. Returns whether the program found no fault, and its output.
fn verify(file: &Path, more: &[&str]) -> (bool, String) {
    let aside = env!("CARGO_BIN_EXE_aside");
    let ran = Command::new(aside).args(["audit", "verify"]).args(more).arg(file).output().expect("aside runs");
    (ran.status.success(), String::from_utf8(ran.stdout).expect("text"))
}
