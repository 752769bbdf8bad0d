//! Headers for a shared HTTP cache in front of the service. They give the time for which it may
//! store an answer, and the tags for purges.

use std::{collections::BTreeSet, time::Duration};

use aside::config::{CdnConfig, CdnTags, Config, PurgeConfig};
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Reply, TestApp, eventually, order, product};

/// Returns the settings for a shared cache whose purges go elsewhere.
fn behind(tags: CdnTags) -> impl Fn(&mut Config) + Send {
    // No server listens there, and answers do not depend on it.
    let purge = Some(PurgeConfig { url: "http://127.0.0.1:9/".into(), token: None });
    move |config| {
        config.cdn = Some(CdnConfig { tags, max_age: Duration::from_secs(300), purge: purge.clone() });
    }
}

const TAGGED: [&str; 6] =
    ["xkey", "surrogate-key", "cache-tag", "cache-groups", "cdn-cache-control", "surrogate-control"];

fn marks(reply: &Reply) -> Vec<&'static str> {
    TAGGED.into_iter().filter(|name| reply.headers.contains_key(*name)).collect()
}

fn tags(reply: &Reply) -> BTreeSet<String> {
    reply.must_have("xkey").split(' ').map(str::to_owned).collect()
}

#[sqlx::test]
async fn catalogue_answers_name_what_they_depend_on(pool: PgPool) {
    let app = TestApp::builder(pool).config(behind(CdnTags::Xkey)).build().await;
    let (one, two) = (app.product(product()).await, app.product(product()).await);
    let set = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<BTreeSet<_>>();
    let (first, second) = (format!("product:{one}"), format!("product:{two}"));

    let reply = app.get_product(one).await;
    assert_eq!(tags(&reply), set(&["*", "product:*", &first]));
    assert_eq!(reply.must_have("cdn-cache-control"), "max-age=300, stale-while-revalidate=10, stale-if-error=60");
    let short = "public, max-age=5, stale-while-revalidate=10, stale-if-error=60";
    assert_eq!(reply.must_have("cache-control"), short, "browsers can't be purged");

    let shown = set(&["*", "product:*", "product-list:*", &first, &second]);
    let list = tags(&app.get("/products").await);
    assert_eq!(&list - &shown, set(&["product-list"]));
    let list = tags(&app.get("/products?category=TROPICAL%20FRUIT").await);
    assert_eq!(&list - &shown, set(&["product-list:category:TROPICAL%20FRUIT"]));
    let batch = tags(&app.get(&format!("/products/batch?ids={two},987654")).await);
    assert_eq!(batch, set(&["*", "product:*", &second, "product:987654"]), "what is unknown may come to be");
    let top = tags(&app.get("/products/top").await);
    assert_eq!(top, set(&["*", "product:*", "product-top:*", &first, &second]));

    let again = app.get_with(&format!("/products/{one}"), "if-none-match", &reply.etag()).await;
    assert_eq!((again.expect(304).header("xkey"), marks(&again)), (reply.header("xkey"), marks(&reply)));
}

#[sqlx::test]
async fn each_kind_of_shared_cache_gets_its_own_headers(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    assert_eq!(marks(&app.get_product(id).await), [""; 0], "none by default");
    for (kind, expected, text) in [
        (CdnTags::SurrogateKey, ["surrogate-key", "surrogate-control"], format!("* product:* product:{id}")),
        (CdnTags::CacheTag, ["cache-tag", "cdn-cache-control"], format!("*,product:*,product:{id}")),
        (
            CdnTags::CacheGroups,
            ["cache-groups", "cdn-cache-control"],
            format!("\"*\", \"product:*\", \"product:{id}\""),
        ),
    ] {
        let instance = app.another_with(behind(kind)).await;
        let reply = instance.get_product(id).await;
        assert_eq!((marks(&reply), reply.must_have(expected[0])), (expected.to_vec(), text));
    }
    let unpurged = |config: &mut Config| {
        behind(CdnTags::Xkey)(config);
        config.cdn.as_mut().expect("just set").purge = None;
    };
    let instance = app.another_with(unpurged).await;
    assert_eq!(marks(&instance.get_product(id).await), ["xkey"], "what nobody purges is kept for a short time only");
}

#[sqlx::test]
async fn an_answer_with_too_many_tags_may_be_stored_only_briefly(pool: PgPool) {
    let app = TestApp::builder(pool).config(behind(CdnTags::CacheGroups)).build().await;
    for _ in 0..40 {
        app.product(product()).await;
    }
    assert_eq!(marks(&app.get("/products?limit=20").await), ["cache-groups", "cdn-cache-control"]);
    let reply = app.get("/products?limit=40").await;
    assert_eq!(marks(reply.expect(200)), [""; 0]);
    assert!(reply.must_have("cache-control").starts_with("public, max-age=5,"));
}

#[sqlx::test]
async fn an_answer_that_is_not_public_has_no_tags(pool: PgPool) {
    let app =
        TestApp::builder(pool).max_staleness(Duration::from_millis(200)).config(behind(CdnTags::Xkey)).build().await;
    let id = app.product(product()).await;
    let placed = app.place_order(order(7).item(id, 1)).await;
    let number = placed.expect(201).int("/id");
    let private = "private, no-cache";
    for (reply, control) in [
        (placed, "no-store"),
        (app.get_order(number).await, private),
        (app.orders_of(7).await, private),
        (app.get_product(987_654).await, "no-store"),
        (app.patch_product(id, json!({ "price_cents": 5 })).await, "no-store"),
    ] {
        assert_eq!((marks(&reply), reply.must_have("cache-control").as_str()), (vec![], control), "{reply:#?}");
    }
    app.get_product(id).await.expect(200);
    app.cut_database();
    let flagged = eventually("the answer is flagged", || async {
        let reply = app.get_product(id).await;
        reply.header("cache-status").is_some_and(|status| status.contains("detail=database-away")).then_some(reply)
    })
    .await;
    assert_eq!((marks(&flagged), flagged.must_have("cache-control").as_str()), (vec![], "no-store"));
}
