//! Requests from pages of other origins (Fetch Standard). `OPTIONS` is a preflight only when it
//! asks about a method.

use sqlx::PgPool;

use super::table::{Row, Table, check, row};

const PREFLIGHT: &str = "Fetch, 4.8 (CORS-preflight fetch)";
const ORIGIN: &str = "https://shop.example";

fn preflight(rule: &'static str, path: &str, method: &str) -> Row {
    row(PREFLIGHT, rule)
        .request(&format!("OPTIONS {path}"))
        .header("Origin", ORIGIN)
        .header("Access-Control-Request-Method", method)
}

pub fn table() -> Table {
    let lets_in = |rule, headers: &str| {
        preflight(rule, "/products/{product}", "GET").header("Access-Control-Request-Headers", headers)
    };
    Table {
        topic: "Pages of other origins",
        settings: |config| config.cors_origins = vec![ORIGIN.into()],
        rows: vec![
            preflight("a preflight of a listed origin is answered", "/products/{product}", "PATCH")
                .status(200)
                .has("access-control-allow-origin", ORIGIN)
                .contains("access-control-allow-methods", "PATCH"),
            lets_in("a traced page may send its trace", "traceparent, tracestate, baggage")
                .contains("access-control-allow-headers", "traceparent")
                .contains("access-control-allow-headers", "tracestate")
                .contains("access-control-allow-headers", "baggage"),
            lets_in(
                "a page may send the service's own headers",
                "consistency-token, idempotency-key, if-match, prefer",
            )
            .contains("access-control-allow-headers", "consistency-token")
            .contains("access-control-allow-headers", "idempotency-key")
            .contains("access-control-allow-headers", "if-match")
            .contains("access-control-allow-headers", "prefer"),
            row(PREFLIGHT, "another origin is told nothing")
                .request("OPTIONS /products/{product}")
                .header("Origin", "https://other.example")
                .header("Access-Control-Request-Method", "GET")
                .lacks("access-control-allow-origin"),
            row("RFC 9110, 9.3.7", "`OPTIONS` without a method to ask about is no preflight")
                .request("OPTIONS /products/{product}")
                .status(204)
                .has("allow", "GET, HEAD, PATCH, DELETE, OPTIONS")
                .contains("accept-patch", "merge-patch"),
            row("RFC 9110, 9.3.7", "also with an origin")
                .request("OPTIONS /products/{product}")
                .header("Origin", ORIGIN)
                .status(204)
                .contains("allow", "PATCH"),
            row("RFC 9110, 9.3.7", "an unknown path has no options")
                .request("OPTIONS /nope")
                .problem("no-such-route", 404),
            row("RFC 9110, 9.3.7", "`OPTIONS *` asks about the service")
                .request("OPTIONS *")
                .status(204)
                .contains("allow", "PATCH"),
            row(
                "Fetch, 3.2.3 (CORS protocol)",
                "an answer may be read by the page, validators and traces of the cache too",
            )
            .request("GET /products/{product}")
            .header("Origin", ORIGIN)
            .status(200)
            .has("access-control-allow-origin", ORIGIN)
            .contains("access-control-expose-headers", "etag")
            .contains("access-control-expose-headers", "consistency-token")
            .contains("access-control-expose-headers", "cache-status"),
            row("Fetch, 3.2.3 (CORS protocol)", "errors too")
                .request("GET /products/0")
                .header("Origin", ORIGIN)
                .problem("invalid-parameter", 400)
                .has("access-control-allow-origin", ORIGIN),
        ],
    }
}

#[sqlx::test]
async fn pages_of_listed_origins_are_let_in(pool: PgPool) {
    check(pool, table()).await;
}
