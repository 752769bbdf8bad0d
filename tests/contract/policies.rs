//! The tests that policies are complete and follow the rules for caching. The outcomes are one
//! closed set, which metrics and code share.

use std::{collections::BTreeSet, time::Duration};

use aside_cache::{L1_LIFETIME_CAP, MAX_AGE_CAP, Outcome};
use sqlx::PgPool;

use crate::support::{TestApp, order, product};

const PATTERNS: [&str; 5] = ["order", "order-list", "product", "product-list", "product-top"];

#[sqlx::test]
async fn every_cached_type_has_one_policy_within_the_rules(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let policies = app.manage("/cache/policies").await.ok();
    let policies = policies.as_array().expect("a list of policies");
    let patterns: Vec<_> = policies.iter().map(|policy| policy["pattern"].as_str().expect("a pattern")).collect();
    assert_eq!(patterns.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(PATTERNS));
    assert_eq!(patterns.len(), PATTERNS.len(), "one policy for each pattern");
    for policy in policies {
        let seconds = |field: &str| {
            Duration::from_secs(policy[field].as_u64().unwrap_or_else(|| panic!("no {field} in {policy}")))
        };
        let (l1, l2, absent, age) =
            (seconds("l1_seconds"), seconds("l2_seconds"), seconds("absent_seconds"), seconds("max_age_seconds"));
        assert!(!l1.is_zero() && l1 <= L1_LIFETIME_CAP, "{policy}");
        assert!(l2 >= Duration::from_secs(60) && l2 <= Duration::from_secs(24 * 3_600), "{policy}");
        assert!(!absent.is_zero() && absent <= l2, "an absence lives shorter than a value: {policy}");
        assert!(age >= l2 && age <= MAX_AGE_CAP, "{policy}");
        assert!(policy["jitter_percent"].as_u64().is_some_and(|percent| (1..=50).contains(&percent)), "{policy}");
    }
}

#[sqlx::test]
async fn the_request_counter_knows_the_outcomes_and_the_patterns_only(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = app.order(order(1).item(id, 1)).await;
    for path in [
        &format!("/products/{id}"),
        "/products",
        "/products/top",
        &format!("/orders/{number}"),
        "/orders?customer_id=1",
    ] {
        app.get_with(path, "cache-control", "only-if-cached").await.expect(504);
        app.get(path).await.expect(200);
        app.get(path).await.expect(200);
    }
    let metrics = app.metrics().await;
    let known: BTreeSet<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str().to_owned()).collect();
    assert_eq!(known.len(), Outcome::ALL.len(), "each outcome has a name of its own");
    let outcomes: BTreeSet<_> = metrics.values("cache_requests_total", "outcome").into_iter().collect();
    assert!(outcomes.is_subset(&known), "{outcomes:?}");
    let patterns: BTreeSet<_> = metrics.values("cache_requests_total", "pattern").into_iter().collect();
    assert_eq!(patterns, PATTERNS.map(String::from).into());
    let invalidated = metrics.values("cache_invalidations_total", "pattern");
    assert!(invalidated.contains(&"product-list".to_owned()), "{invalidated:?}");
    assert!(invalidated.iter().all(|pattern| PATTERNS.contains(&pattern.as_str())), "{invalidated:?}");
}
