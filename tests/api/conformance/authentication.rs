//! Authentication: challenges, and the address under which wrong tokens are counted.

use sqlx::PgPool;

use super::table::{Row, Table, check, row};
use crate::support::tokens::SECRET;

const CHALLENGE: &str = "RFC 6750, 3";
const NO_ERROR: &str = "RFC 6750, 3.1";

pub fn table() -> Table {
    let read = |rule: &'static str, source: &'static str| row(source, rule).request("GET /orders?customer_id=1");
    let plain = |row: Row| row.problem("unauthenticated", 401).has("www-authenticate", r#"Bearer realm="aside""#);
    let invalid = |row: Row| {
        row.problem("unauthenticated", 401).has("www-authenticate", r#"Bearer realm="aside", error="invalid_token""#)
    };
    Table {
        topic: "Authentication",
        settings: |config| config.jwt_secret = Some(SECRET.into()),
        rows: vec![
            plain(read("a request without a token is challenged without an error", NO_ERROR)),
            plain(
                read("so is a request with another scheme, because it names no token", NO_ERROR)
                    .header("Authorization", "Basic YWNtZTpzZWNyZXQ="),
            ),
            plain(read("also one without parameters", NO_ERROR).header("Authorization", "Negotiate")),
            invalid(read("a token that is none is invalid", CHALLENGE).header("Authorization", "Bearer nonsense")),
            invalid(
                read("the scheme's case makes no difference", "RFC 9110, 11.1")
                    .header("Authorization", "bEARER nonsense"),
            ),
            invalid(read("the scheme without a token is malformed", CHALLENGE).header("Authorization", "Bearer")),
            invalid(
                read("two are malformed", "RFC 9110, 5.3")
                    .header("Authorization", "Bearer a")
                    .header("Authorization", "Bearer b"),
            ),
            read("a token without the scope says which is missing", NO_ERROR)
                .header("Authorization", "Bearer {weak}")
                .problem("forbidden", 403)
                .contains("www-authenticate", r#"error="insufficient_scope", scope="orders:read""#),
            row("RFC 9110, 11.6.1", "the catalogue asks for none")
                .request("GET /products/{product}")
                .status(200)
                .lacks("www-authenticate"),
            row("RFC 9110, 13.2.1", "an unauthenticated client learns nothing by preconditions")
                .request("DELETE /products/{product}")
                .header("If-Match", "\"other\"")
                .problem("unauthenticated", 401),
            row("RFC 7239, 4", "wrong tokens are counted by the client that a trusted proxy names")
                .shown_by("tests/api/identity.rs::clients_behind_a_trusted_proxy_are_counted_apart"),
        ],
    }
}

#[sqlx::test]
async fn challenges_say_what_is_missing(pool: PgPool) {
    check(pool, table()).await;
}
