//! The tests that dashboards and alert rules use only metrics that the service exports. Otherwise a
//! renamed metric would leave a panel empty or disable an alert without any notice.

use std::collections::BTreeSet;

use aside_cache::Outcome;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::sources::{is_metric, read};
use crate::support::{Cdn, RedisServer, TestApp, eventually, order, product};

/// Metrics of Prometheus itself.
const ITS_OWN: [&str; 1] = ["up"];
/// Label values that occur only after a fault.
const RARE: [&str; 3] = ["refused", "stale", "5xx"];

#[sqlx::test]
async fn every_metric_that_a_dashboard_or_an_alert_asks_for_is_exported(pool: PgPool) {
    let redis = RedisServer::start();
    let cdn = Cdn::start().await;
    let app = TestApp::builder(pool)
        .redis(&redis)
        .config(cdn.configure())
        .config(|config| config.audit_log = Some("/dev/null".into()))
        .build()
        .await;
    let id = app.product(product()).await;
    for path in [format!("/products/{id}"), format!("/products/{id}"), "/products".into(), "/no-such-route".into()] {
        app.get(&path).await;
    }
    app.order(order(7).item(id, 1)).await;
    app.patch_product(id, json!({ "price_cents": 7 })).await.expect(200);
    let exported = eventually("the memory of Redis is known", || async {
        let metrics = app.metrics().await;
        metrics.values("cache_memory_state", "tier").iter().any(|tier| tier == "l2").then_some(metrics)
    })
    .await;

    let (mut asked, mut missing) = (0, Vec::new());
    for (place, expression) in expressions() {
        for (name, labels) in selectors(&expression) {
            asked += 1;
            let has = |(label, value): &(String, String)| {
                RARE.contains(&value.as_str())
                    || exported.values(&name, label).iter().any(|known| value.split('|').any(|one| one == known))
            };
            let is_there = ITS_OWN.contains(&name.as_str()) || exported.knows(&name) && labels.iter().all(has);
            if !is_there {
                missing.push(format!("{place}: {name} with {labels:?}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(asked > 30, "only {asked} selectors were found");
}

#[sqlx::test]
async fn every_metric_is_described_and_no_other(pool: PgPool) {
    let cdn = Cdn::start().await;
    let app = TestApp::builder(pool)
        .config(cdn.configure())
        .config(|config| (config.cache_warm_top, config.audit_log) = (1, Some("/dev/null".into())))
        .build()
        .await;
    // A counter that was never raised is not exported.
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    app.order_management("/cache/warm", json!({})).await.expect(200);

    let page = read("docs/metrics.md");
    let table = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let names = table.flat_map(|cell| cell.split(", ").map(|name| name.trim_matches('`')));
    let outcomes = Outcome::ALL.map(Outcome::as_str);
    let described: BTreeSet<&str> = names.filter(|name| !outcomes.contains(name)).collect();
    eventually("what is exported is what is described", || async {
        let metrics = app.manage("/metrics").await.text;
        let exported = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let exported: BTreeSet<&str> = exported.collect();
        let strangers: Vec<&&str> = exported.iter().filter(|name| !is_metric(name)).collect();
        assert!(strangers.is_empty(), "METRICS in sources.rs doesn't know how these begin: {strangers:?}");
        (described == exported).then_some(())
    })
    .await;
    for outcome in outcomes {
        assert!(page.contains(&format!("`{outcome}`")), "{outcome} is not described");
    }
}

/// All expressions of panels and rules, each with its place.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("ops/grafana/dashboards/cache.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(move |target| (title.clone(), target["expr"].as_str().expect("an expression").to_owned()))
    });
    let rules = read("ops/prometheus/alerts.yml");
    // An expression ends at the next field of its rule.
    let rules = rules.split("- alert: ").skip(1).map(|rule| {
        let (name, rest) = rule.split_once('\n').expect("a name");
        let expression = rest.split_once("expr:").expect("an expression").1;
        let end = ["\n        for:", "\n        labels:"].into_iter().filter_map(|field| expression.find(field)).min();
        (name.to_owned(), expression[..end.expect("an end")].to_owned())
    });
    panels.chain(rules).collect()
}

/// The metrics that an expression names, with the required values of labels (`=` and `=~`).
fn selectors(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(word) {
        let end = rest[start..].find(|c| !word(c)).map_or(rest.len(), |length| start + length);
        let name = &rest[start..end];
        rest = &rest[end..];
        if !ITS_OWN.contains(&name) && !is_metric(name) {
            continue;
        }
        let labels = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let pairs = labels.map_or_else(Vec::new, |(inside, _)| inside.split("\",").filter_map(pair).collect());
        found.push((name.to_owned(), pairs));
        rest = labels.map_or(rest, |(_, behind)| behind);
    }
    found
}

fn pair(text: &str) -> Option<(String, String)> {
    let (label, value) = text.split_once("=~").or_else(|| text.split_once('='))?;
    (!label.ends_with('!')).then(|| (label.trim().to_owned(), value.trim_matches('"').to_owned()))
}

#[test]
fn every_alert_has_its_place_in_the_runbook_and_says_where() {
    let (rules, runbook) = (read("ops/prometheus/alerts.yml"), read("docs/runbook.md"));
    let alerts: BTreeSet<&str> =
        rules.split("- alert: ").skip(1).filter_map(|rule| rule.split_whitespace().next()).collect();
    let headings: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(alerts, headings);
    for alert in alerts {
        let place = format!("runbook: docs/runbook.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&place), "{alert} doesn't say {place}");
    }
}
