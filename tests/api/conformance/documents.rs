//! Pages and documents. They do not change until the next deployment, so each has a validator. The
//! client chooses the media type and the coding.

use sqlx::PgPool;

use super::table::{Row, Table, check, row};
use crate::support::TestApp;

const ACCEPT: &str = "RFC 9110, 12.4.2";
const CODING: &str = "RFC 9110, 12.5.3";

fn problem(rule: &'static str, accept: &str) -> Row {
    row(ACCEPT, rule).request("GET /problems/validation").header("Accept", accept).status(200)
}

pub fn table() -> Table {
    let html = |row: Row| row.has("content-type", "text/html; charset=utf-8").lists("vary", "accept");
    let json = |row: Row| row.has("content-type", "application/json").lists("vary", "accept");
    let validated = |path: &str| {
        row("RFC 9110, 8.8.3", "a storable answer has a validator")
            .request(&format!("GET {path}"))
            .status(200)
            .contains("etag", "\"")
    };
    Table {
        topic: "Pages and documents",
        settings: |_| {},
        rows: vec![
            json(problem("without a wish programs are answered", "*/*")),
            html(problem("a browser gets a page", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")),
            json(problem("weights count", "text/html;q=0.1, application/json")),
            html(problem("also of ranges", "application/*;q=0.2, text/*;q=0.3")),
            json(problem("a weight of zero refuses", "text/html;q=0, */*")),
            json(problem("a media type that is not offered falls back to the default", "image/png")),
            validated("/openapi.json"),
            validated("/docs/"),
            validated("/docs/swagger-ui-bundle.js"),
            validated("/docs/swagger-initializer.js"),
            validated("/problems"),
            validated("/problems/validation"),
            row("own document", "dots in a path are not resolved")
                .request("GET /docs/../openapi.json")
                .problem("no-such-route", 404),
            row(CODING, "a client that accepts gzip gets it, under an entity tag of its own")
                .request("GET /openapi.json")
                .header("Accept-Encoding", "gzip, br")
                .status(200)
                .has("content-encoding", "gzip")
                .has("vary", "accept-encoding"),
            row(CODING, "other clients get plain bytes, and `Vary` tells caches of the choice")
                .request("HEAD /openapi.json")
                .header("Accept-Encoding", "gzip;q=0")
                .status(200)
                .lacks("content-encoding")
                .has("vary", "accept-encoding"),
            row(CODING, "so it is for the explorer")
                .request("HEAD /docs/swagger-ui-bundle.js")
                .header("Accept-Encoding", "gzip")
                .status(200)
                .has("content-encoding", "gzip")
                .has("cache-control", "public, max-age=3600"),
            row("RFC 9110, 13.1.2", "each is answered by a 304 under its tag").shown_by(
                "tests/api/conformance/documents.rs::pages_and_documents_are_validated_in_each_of_their_codings",
            ),
        ],
    }
}

#[sqlx::test]
async fn pages_and_documents_are_sent_as_the_client_likes_them(pool: PgPool) {
    check(pool, table()).await;
}

#[sqlx::test]
async fn pages_and_documents_are_validated_in_each_of_their_codings(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for path in ["/openapi.json", "/docs/", "/docs/swagger-ui-bundle.js", "/problems", "/problems/validation"] {
        let mut tags = Vec::new();
        for coding in ["identity", "gzip"] {
            let reply = app.get_with(path, "accept-encoding", coding).await;
            let tag = reply.expect(200).etag();
            let request = app.request(reqwest::Method::GET, path).header("accept-encoding", coding);
            let again = app.send(request.header("if-none-match", &tag)).await;
            assert_eq!((again.expect(304).etag(), again.text.len()), (tag.clone(), 0), "{path}");
            assert_eq!(reply.header("cache-control"), again.header("cache-control"));
            assert_eq!(reply.header("vary"), again.header("vary"));
            let packed = reply.header("content-encoding").is_some();
            assert!(!packed || coding == "gzip", "{path} in {coding}");
            tags.push((packed, tag));
        }
        assert_eq!(tags[0].1 == tags[1].1, !tags[1].0, "{path}: bytes of another coding are another representation");
    }
}
