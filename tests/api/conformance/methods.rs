//! Methods: those of each route, the answer to `HEAD`, and the parts of a request that are ignored.

use sqlx::PgPool;

use super::table::{Row, Table, check, row};

const OPTIONS: &str = "RFC 9110, 9.3.7";
const HEAD: &str = "RFC 9110, 9.3.2";
const PRODUCT: &str = "GET, HEAD, PATCH, DELETE, OPTIONS";

/// Returns a row for an error that `HEAD` and `GET` report alike.
fn head(rule: &'static str, path: &str, kind: &'static str, status: u16) -> Row {
    row(HEAD, rule).request(&format!("HEAD {path}")).problem(kind, status).body("").contains("content-length", "")
}

pub fn table() -> Table {
    Table {
        topic: "Methods",
        settings: |_| {},
        rows: vec![
            row(OPTIONS, "`OPTIONS` lists the methods, itself too")
                .request("OPTIONS /products/{product}")
                .status(204)
                .has("allow", PRODUCT)
                .body(""),
            row("RFC 5789, 3.1", "and the media types of a patch")
                .request("OPTIONS /products/{product}")
                .has("accept-patch", "application/merge-patch+json, application/json"),
            row(OPTIONS, "where nothing can be patched there are none")
                .request("OPTIONS /products")
                .status(204)
                .has("allow", "GET, HEAD, POST, OPTIONS")
                .lacks("accept-patch"),
            row(OPTIONS, "`OPTIONS *` asks about the service")
                .request("OPTIONS *")
                .status(204)
                .contains("allow", "PATCH"),
            row(OPTIONS, "an unknown path has no options").request("OPTIONS /nowhere").problem("no-such-route", 404),
            row("RFC 9110, 15.5.6", "a method that the route lacks is told from those that it has")
                .request("PUT /products/{product}")
                .problem("method-not-allowed", 405)
                .has("allow", PRODUCT),
            row("RFC 9110, 15.5.6", "also on pages")
                .request("POST /docs/")
                .problem("method-not-allowed", 405)
                .has("allow", "GET, HEAD, OPTIONS"),
            row("RFC 9110, 9.1", "a method that no route has is not implemented")
                .request("BREW /products/{product}")
                .problem("not-implemented", 501),
            row(HEAD, "`HEAD` says what `GET` would, without the body")
                .request("HEAD /products/{product}")
                .status(200)
                .has("content-type", "application/json")
                .contains("etag", "\"")
                .contains("content-length", "")
                .body(""),
            head("also of an invalid id", "/products/0", "invalid-parameter", 400),
            head("also of an unknown resource", "/products/9", "not-found", 404),
            head("also of an unknown path", "/nowhere", "no-such-route", 404),
            row(HEAD, "also of a file that isn't there")
                .request("HEAD /docs/nothing")
                .problem("no-such-route", 404)
                .body(""),
            row("RFC 9110, 14.2", "a range is ignored: all is answered")
                .request("GET /products/{product}")
                .header("Range", "bytes=0-3")
                .status(200)
                .lacks("content-range"),
            row("RFC 9110, 14.2", "also one that can't be satisfied")
                .request("GET /products/{product}")
                .header("Range", "bytes=999999-")
                .status(200),
            row("RFC 9110, 13.1.5", "`If-Range` is ignored with it")
                .request("GET /products/{product}")
                .header("Range", "bytes=0-3")
                .header("If-Range", "{tag}")
                .status(200),
            row("RFC 9110, 10.1.1", "a body beyond the limit is refused before it is sent")
                .request("POST /products")
                .header("Content-Type", "application/json")
                .header("Expect", "100-continue")
                .header("Content-Length", "9999999")
                .problem("payload-too-large", 413),
            row("RFC 9110, 10.1.1", "also one of a media type that no handler reads")
                .request("POST /products")
                .header("Content-Type", "text/plain")
                .header("Expect", "100-continue")
                .header("Content-Length", "10")
                .problem("unsupported-media-type", 415),
        ],
    }
}

#[sqlx::test]
async fn methods_do_what_they_are_for(pool: PgPool) {
    check(pool, table()).await;
}
