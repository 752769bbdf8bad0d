//! The host and the target of a request.

use sqlx::PgPool;

use super::table::{Row, Table, check, row};
use crate::support::{TestApp, raw::RawConnection};

const HOST: &str = "RFC 9112, 3.2";
const PATH: &str = "RFC 9110, 4.2.3; RFC 3986, 6.2.2.2";
const BAD: (&str, u16) = ("invalid-parameter", 400);

fn host(rule: &'static str, head: &str) -> Row {
    row(HOST, rule).raw(head)
}

pub fn table() -> Table {
    let refused = |row: Row| row.problem(BAD.0, BAD.1).names("Host");
    Table {
        topic: "Hosts and targets",
        settings: |_| {},
        rows: vec![
            refused(host("HTTP/1.1 without `Host` is refused", "GET /livez HTTP/1.1")),
            refused(host("two of them are refused", "GET /livez HTTP/1.1\nHost: a\nHost: b")),
            refused(host("also two that are equal", "GET /livez HTTP/1.1\nHost: a\nHost: a")),
            refused(host("an invalid one is refused", "GET /livez HTTP/1.1\nHost: a b/c")),
            refused(host("also one with a user", "GET /livez HTTP/1.1\nHost: user@a")),
            refused(host("also one with a port that is none", "GET /livez HTTP/1.1\nHost: a:b")),
            refused(host("also in HTTP/1.0", "GET /livez HTTP/1.0\nHost: a\nHost: b")),
            refused(host("also on a write", "DELETE /products/{product} HTTP/1.1")),
            host("HTTP/1.0 need not name one", "GET /livez HTTP/1.0").status(200),
            host("an empty one is valid", "GET /livez HTTP/1.1\nHost:").status(200),
            host("an address with a port is valid", "GET /livez HTTP/1.1\nHost: [::1]:3000").status(200),
            row("RFC 9112, 3.2.2", "the absolute form wins over `Host`")
                .raw("GET http://shop.example/livez HTTP/1.1\nHost: other.example")
                .status(200),
            refused(
                row("RFC 9110, 4.2.4", "a target with a user is refused")
                    .raw("GET http://user@a/livez HTTP/1.1\nHost: a"),
            ),
            row(HOST, "so it is on the management listener")
                .shown_by("tests/api/conformance/hosts_and_targets.rs::the_management_listener_asks_for_a_host_too"),
            row(PATH, "a percent-encoded letter of a path is the letter")
                .request("GET /%70roducts/{product}")
                .status(200),
            row(PATH, "a percent-encoded digit is the digit").request("GET /products/%39").problem("not-found", 404),
            row(PATH, "a reserved character is not decoded")
                .request("GET /products%2F{product}")
                .problem("no-such-route", 404),
            row("RFC 3986, 6.2.2.1", "the case of hexadecimal digits makes no difference")
                .request("GET /%6cive%7A")
                .status(200),
            row("own document", "one resource has one path: no leading zeros")
                .request("GET /products/0{product}")
                .problem(BAD.0, BAD.1)
                .names("id"),
            row("RFC 9110, 15.5.5", "an unknown path is not found")
                .request("GET /nowhere")
                .problem("no-such-route", 404),
        ],
    }
}

#[sqlx::test]
async fn requests_reach_the_resource_that_they_name(pool: PgPool) {
    check(pool, table()).await;
}

#[sqlx::test]
async fn the_management_listener_asks_for_a_host_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (hosts, status) in
        [("", 400), ("Host: a\r\nHost: a\r\n", 400), ("Host: a b\r\n", 400), ("Host: localhost\r\n", 200)]
    {
        let mut line = RawConnection::open(app.management).await;
        line.send(format!("GET /metrics HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n").as_bytes()).await;
        let reply = line.reply().await;
        assert_eq!(reply.status, status, "{hosts:?}");
        let is_problem = reply.header("content-type").as_deref() == Some("application/problem+json");
        assert_eq!(is_problem, status == 400);
    }
}
