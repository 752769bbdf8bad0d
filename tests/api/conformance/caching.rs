//! The headers for HTTP caches: age, lifetime, validators and the state of each tier.

use sqlx::PgPool;

use super::table::{Table, check, row};

const AGE: &str = "RFC 9111, 5.1";
const STATUS: &str = "RFC 9211, 2";

pub fn table() -> Table {
    let product = "/products/{product}";
    let get = "GET /products/{product}";
    Table {
        topic: "Caching",
        settings: |_| {},
        rows: vec![
            row(AGE, "an answer that was generated for the request has no age")
                .request(get)
                .header("Cache-Control", "no-store")
                .status(200)
                .lacks("age"),
            row(AGE, "the age of a hit is the time since it was proven current, not since the database was read")
                .after(product)
                .after_a_second()
                .request(get)
                .proven_since_it_was_read(),
            row(AGE, "also of a list")
                .after("/products")
                .after_a_second()
                .request("GET /products")
                .proven_since_it_was_read(),
            row(AGE, "also of a batch")
                .after(product)
                .after_a_second()
                .request("GET /products/batch?ids={product}")
                .proven_since_it_was_read(),
            row("RFC 9111, 5.2.2", "the catalogue may be kept for some seconds by everybody")
                .request(get)
                .has("cache-control", "public, max-age=5, stale-while-revalidate=10, stale-if-error=60"),
            row("RFC 9111, 5.2.2.7", "orders are their reader's, and validated before each use")
                .request("GET /orders/{order}")
                .has("cache-control", "private, no-cache")
                .has("vary", "authorization"),
            row("RFC 9110, 15.1", "an error may not be kept, though heuristics would let caches do so")
                .request("GET /products/9")
                .problem("not-found", 404)
                .has("cache-control", "no-store"),
            row("RFC 9110, 15.4.5", "304 has the headers of the 200")
                .after(product)
                .request(get)
                .header("If-None-Match", "W/{tag}, \"other\"")
                .status(304)
                .has("etag", "{tag}")
                .contains("age", "")
                .contains("cache-control", "max-age=5")
                .contains("cache-status", "hit")
                .lacks("content-type")
                .lacks("content-length")
                .body(""),
            row("RFC 9110, 13.1.1", "`If-Match` compares strongly")
                .request(get)
                .header("If-Match", "W/{tag}")
                .problem("version-conflict", 412),
            row("RFC 9110, 13.2.2", "`If-Match` comes before `If-None-Match`")
                .request(get)
                .header("If-Match", "\"other\"")
                .header("If-None-Match", "{tag}")
                .problem("version-conflict", 412),
            row("RFC 9110, 13.2.1", "an error wins over a precondition")
                .request("GET /products/9")
                .header("If-Match", "\"x\"")
                .problem("not-found", 404),
            row("RFC 9110, 13.1.3", "a date is ignored where there is no `Last-Modified`")
                .request(get)
                .header("If-Modified-Since", "Sun, 06 Nov 2094 08:49:37 GMT")
                .status(200),
            row(STATUS, "a hit names its tier and its remaining lifetime")
                .after(product)
                .request(get)
                .contains("cache-status", "aside-l1; hit; ttl="),
            row("RFC 9211, 2.4", "an entry past its lifetime has a negative one").shown_by(
                "crates/aside-axum/src/cache_status.rs::an_entry_that_has_outlived_its_lifetime_has_a_negative_ttl",
            ),
            row("RFC 9211, 2.2", "one that was found and was not fresh is forwarded as `stale`")
                .shown_by("crates/aside-axum/src/cache_status.rs::every_outcome_has_its_cache_status"),
            row("RFC 9211, 2.2", "an entry that the request excludes is forwarded as `request`")
                .after(product)
                .request(get)
                .header("Cache-Control", "no-cache")
                .has("cache-status", "aside-l1; fwd=request"),
            row(STATUS, "an error of the service itself says nothing of a cache")
                .request("GET /products/0")
                .status(400)
                .lacks("cache-status"),
            row("RFC 9111, 5.2.1.7", "`only-if-cached` is answered from a tier")
                .after(product)
                .request(get)
                .header("Cache-Control", "only-if-cached")
                .status(200),
            row("RFC 9111, 5.2.1.7", "or by a 504")
                .request("GET /products/999")
                .header("Cache-Control", "only-if-cached")
                .problem("not-cached", 504),
            row("RFC 9111, 5.4", "`Pragma` is ignored")
                .after(product)
                .request(get)
                .header("Pragma", "no-cache")
                .contains("cache-status", "hit"),
        ],
    }
}

#[sqlx::test]
async fn caches_are_told_what_they_may_do(pool: PgPool) {
    check(pool, table()).await;
}
