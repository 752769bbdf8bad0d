//! Input that the service must refuse. Each row has a request, its problem and the place that the
//! problem names. After each row the tables are unchanged.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::rows::{Row, check, row};
use crate::support::{Reply, TestApp, database, product, raw::json_request};

const PARAMETER: (&str, u16) = ("invalid-parameter", 400);
const MALFORMED: (&str, u16) = ("malformed-body", 400);
const BROKEN_RULE: (&str, u16) = ("validation", 422);
const UNKNOWN: (&str, u16) = ("not-found", 404);
const CONFLICT: (&str, u16) = ("version-conflict", 412);
const MEDIA_TYPE: (&str, u16) = ("unsupported-media-type", 415);

fn get(what: &'static str, path: impl Into<String>, problem: (&'static str, u16)) -> Row {
    row(what, Method::GET, path, problem)
}

/// Returns a row with a body for `POST /products`.
fn new_product(what: &'static str, body: impl Into<Value>) -> Row {
    row(what, Method::POST, "/products", BROKEN_RULE).json(&body.into().to_string())
}

/// Returns a row with a body for `PATCH /products/{product}`.
fn change(what: &'static str, body: Value) -> Row {
    row(what, Method::PATCH, "/products/{product}", BROKEN_RULE).json(&body.to_string())
}

/// Returns a row with a body for `POST /orders`.
fn new_order(what: &'static str, body: &str) -> Row {
    row(what, Method::POST, "/orders", BROKEN_RULE).json(body)
}

/// Returns a row with a valid body for `POST /orders` and this `Idempotency-Key`.
fn order_with_key(what: &'static str, key: impl Into<String>) -> Row {
    let body = r#"{"customer_id":1,"items":[{"product_id":{product},"quantity":1}]}"#;
    new_order(what, body).gets(PARAMETER).names("Idempotency-Key").header("idempotency-key", key)
}

#[sqlx::test]
async fn ids_that_are_none(pool: PgPool) {
    check(
        pool,
        vec![
            get("a word as id", "/products/abc", PARAMETER).names("id"),
            get("a negative id", "/products/-1", PARAMETER).names("id"),
            get("zero as id", "/products/0", PARAMETER).names("id"),
            get("an id of 65 bits", "/products/9223372036854775808", PARAMETER).names("id"),
            get("an id that JavaScript can't read", "/products/9007199254740992", PARAMETER).names("id"),
            get("a fraction as id", "/products/1.5", PARAMETER).names("id"),
            get("an id with a sign", "/products/+1", PARAMETER).names("id"),
            get("an id with leading zeros", "/products/007", PARAMETER).names("id"),
            get("an id with a NUL byte", "/products/1%00", PARAMETER).names("id"),
            get("an id that is no UTF-8", "/products/%FF", PARAMETER).names("id"),
            get("an id with an injection", "/products/1'%20or%20'1'='1", PARAMETER).names("id"),
            get("an overlong id", format!("/products/{}", "9".repeat(4_000)), PARAMETER).names("id"),
            get("an order id that is a word", "/orders/abc", PARAMETER).names("id"),
            get("an order id with an exponent", "/orders/1e3", PARAMETER).names("id"),
            get("an unknown product", "/products/9007199254740991", UNKNOWN),
            get("an unknown order", "/orders/1", UNKNOWN),
            row("deleting an unknown product", Method::DELETE, "/products/1", UNKNOWN),
            row("changing a product with a bad id", Method::PATCH, "/products/x", PARAMETER)
                .json(r#"{"stock":1}"#)
                .names("id"),
            row("changing an unknown product", Method::PATCH, "/products/1", UNKNOWN).json(r#"{"stock":1}"#),
            row("moving an unknown order", Method::PATCH, "/orders/1", UNKNOWN).json(r#"{"status":"confirmed"}"#),
        ],
    )
    .await;
}

#[sqlx::test]
async fn queries_that_ask_nonsense(pool: PgPool) {
    let many = (1..=101).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    check(
        pool,
        vec![
            get("a limit of zero", "/products?limit=0", PARAMETER).names("limit"),
            get("a negative limit", "/products?limit=-5", PARAMETER).names("limit"),
            get("a limit above the highest", "/products?limit=101", PARAMETER).names("limit"),
            get("a limit that is a word", "/products?limit=many", PARAMETER).names("limit"),
            get("an empty limit", "/orders?customer_id=1&limit=", PARAMETER).names("limit"),
            get("a limit of the top that is too high", "/products/top?limit=1000", PARAMETER).names("limit"),
            get("a cursor that is none", "/products?cursor=nonsense", PARAMETER).names("cursor"),
            get("an empty cursor", "/products?cursor=", PARAMETER).names("cursor"),
            get("an overlong cursor", format!("/products?cursor={}", "A".repeat(5_000)), PARAMETER).names("cursor"),
            get("a cursor with a NUL byte", "/products?cursor=%00", PARAMETER).names("cursor"),
            get("a cursor of the other list", "/orders?customer_id=1&cursor={product_cursor}", PARAMETER)
                .names("cursor"),
            get("an unknown parameter", "/products?colour=red", PARAMETER).names("colour"),
            get("a repeated parameter", "/products?limit=1&limit=2", PARAMETER).names("limit"),
            get("a category with a NUL byte", "/products?category=%00", PARAMETER).names("category"),
            get("a category that is no UTF-8", "/products?category=%FF", PARAMETER).names("category"),
            get("a category longer than any", format!("/products?category={}", "c".repeat(201)), PARAMETER)
                .names("category"),
            get("an overlong department", format!("/products?department={}", "d".repeat(5_000)), PARAMETER)
                .names("department"),
            get("ids that are words", "/products/batch?ids=a,b", PARAMETER).names("ids"),
            get("no ids", "/products/batch?ids=", PARAMETER).names("ids"),
            get("an empty place among ids", "/products/batch?ids=1,,2", PARAMETER).names("ids"),
            get("too many ids", format!("/products/batch?ids={many}"), PARAMETER).names("ids"),
            get("ids together with a filter", "/products/batch?ids=1&category=APPLES", PARAMETER).names("category"),
            get("orders of nobody", "/orders", PARAMETER).names("customer_id"),
            get("orders of a word", "/orders?customer_id=bob", PARAMETER).names("customer_id"),
            get("orders of a negative customer", "/orders?customer_id=-1", PARAMETER).names("customer_id"),
            get("orders in an unknown status", "/orders?customer_id=1&status=lost", PARAMETER).names("status"),
        ],
    )
    .await;
}

#[sqlx::test]
async fn products_that_break_rules(pool: PgPool) {
    check(
        pool,
        vec![
            new_product("a negative price", product().price(-1)).names("/price_cents"),
            new_product("a price beyond the highest", product().price(1_000_000_001)).names("/price_cents"),
            new_product("a price of 65 bits", product().with("price_cents", 9_223_372_036_854_775_808_u64))
                .names("/price_cents"),
            new_product("a price with a fraction", product().with("price_cents", 1.5)).names("/price_cents"),
            new_product("a price as text", product().with("price_cents", "199")).names("/price_cents"),
            new_product("a negative stock", product().stock(-1)).names("/stock"),
            new_product("a stock of 33 bits", product().stock(4_294_967_296)).names("/stock"),
            new_product("no name", product().without("name")).names("/name"),
            new_product("null as name", product().with("name", Value::Null)).names("/name"),
            new_product("an empty name", product().name("")).names("/name"),
            new_product("a name of blanks", product().name("   ")).names("/name"),
            new_product("a name with a NUL byte", product().name("a\0b")).names("/name"),
            new_product("a name with a line break", product().name("a\nb")).names("/name"),
            new_product("an overlong name", product().name(&"n".repeat(201))).names("/name"),
            new_product("an overlong brand", product().with("brand", "b".repeat(81))).names("/brand"),
            new_product("an overlong package size", product().with("package_size", "p".repeat(41)))
                .names("/package_size"),
            new_product("a currency in small letters", product().with("currency", "usd")).names("/currency"),
            new_product("a currency of four letters", product().with("currency", "EURO")).names("/currency"),
            new_product("an unknown field", product().with("colour", "red")).names("/colour"),
            new_product("an id of the client's own", product().with("id", 5)).names("/id"),
            new_product("a version of the client's own", product().with("version", 5)).names("/version"),
            change("a negative price in a change", json!({ "price_cents": -1 })).names("/price_cents"),
            change("null for what can't be empty", json!({ "price_cents": null })).names("/price_cents"),
            change("an unknown field in a change", json!({ "colour": "red" })).names("/colour"),
            change("a change of what only the service changes", json!({ "view_count": 1_000_000 }))
                .names("/view_count"),
            change("a NUL byte in a change", json!({ "name": "a\0b" })).names("/name"),
            change("a change of the wrong type", json!({ "stock": "many" })).names("/stock"),
        ],
    )
    .await;
}

#[sqlx::test]
async fn orders_that_break_rules(pool: PgPool) {
    let line =
        |quantity: &str| format!(r#"{{"customer_id":1,"items":[{{"product_id":{{product}},"quantity":{quantity}}}]}}"#);
    let twice =
        r#"{"customer_id":1,"items":[{"product_id":{product},"quantity":1},{"product_id":{product},"quantity":1}]}"#;
    let lines = vec![r#"{"product_id":{product},"quantity":1}"#; 101].join(",");
    check(
        pool,
        vec![
            new_order("a quantity of zero", &line("0")).names("/items/0/quantity"),
            new_order("a negative quantity", &line("-2")).names("/items/0/quantity"),
            new_order("a quantity of 33 bits", &line("4294967296")).names("/items/0/quantity"),
            new_order("a quantity beyond the highest", &line("2147483647")).names("/items/0/quantity"),
            new_order("a quantity with a fraction", &line("1.5")).names("/items/0/quantity"),
            new_order("a quantity as text", &line("\"1\"")).names("/items/0/quantity"),
            new_order("no quantity", r#"{"customer_id":1,"items":[{"product_id":{product}}]}"#)
                .names("/items/0/quantity"),
            new_order("no items", r#"{"customer_id":1,"items":[]}"#).names("/items"),
            new_order("items that are none", r#"{"customer_id":1,"items":"all"}"#).names("/items"),
            new_order("too many items", &format!(r#"{{"customer_id":1,"items":[{lines}]}}"#)).names("/items"),
            new_order("a product twice", twice).names("/items/1/product_id"),
            new_order("an unknown product", r#"{"customer_id":1,"items":[{"product_id":7,"quantity":1}]}"#)
                .names("/items/0/product_id"),
            new_order("a negative product", r#"{"customer_id":1,"items":[{"product_id":-7,"quantity":1}]}"#)
                .names("/items/0/product_id"),
            new_order("a customer of zero", r#"{"customer_id":0,"items":[{"product_id":{product},"quantity":1}]}"#)
                .names("/customer_id"),
            new_order("no customer", r#"{"items":[{"product_id":{product},"quantity":1}]}"#).names("/customer_id"),
            new_order("a price of the client's own", r#"{"customer_id":1,"items":[],"total_cents":1}"#)
                .names("/total_cents"),
            new_order(
                "an unknown field in an item",
                r#"{"customer_id":1,"items":[{"product_id":1,"quantity":1,"price":0}]}"#,
            )
            .names("/items/0/price"),
            new_order("more than there is", &line("4")).gets(("out-of-stock", 409)).names("/items/0/quantity"),
            order_with_key("an empty idempotency key", ""),
            order_with_key("an empty quoted key", "\"\""),
            order_with_key("a key whose quote never ends", "\"open"),
            order_with_key("a key with a blank", "two words"),
            order_with_key("an overlong key", "k".repeat(256)),
            order_with_key("a key with other letters", "schlüssel"),
            row("an unknown status", Method::PATCH, "/orders/{order}", BROKEN_RULE)
                .json(r#"{"status":"lost"}"#)
                .names("/status"),
            row("a status that is none", Method::PATCH, "/orders/{order}", BROKEN_RULE)
                .json(r#"{"status":1}"#)
                .names("/status"),
            row("no status", Method::PATCH, "/orders/{order}", BROKEN_RULE).json("{}").names("/status"),
            row("more than the status", Method::PATCH, "/orders/{order}", BROKEN_RULE)
                .json(r#"{"status":"shipped","total_cents":1}"#)
                .names("/total_cents"),
            row("an illegal transition", Method::PATCH, "/orders/{order}", ("invalid-transition", 409))
                .json(r#"{"status":"pending"}"#)
                .names("/status"),
        ],
    )
    .await;
}

#[sqlx::test]
async fn bodies_that_are_none(pool: PgPool) {
    let post = |what, body: &str| row(what, Method::POST, "/products", MALFORMED).json(body);
    check(
        pool,
        vec![
            post("an empty body", ""),
            post("a body of blanks", "   "),
            post("a torn body", r#"{"name":"#),
            post("a trailing comma", r#"{"name":"x",}"#),
            post("something after the end", r#"{"status":"confirmed"} {"#),
            post("JSON that is no object", "[]").gets(BROKEN_RULE),
            post("a number instead of an object", "42").gets(BROKEN_RULE),
            post("null instead of an object", "null").gets(BROKEN_RULE),
            post("a body nested without end", &"[".repeat(30_000)),
            post("a field twice", r#"{"name":"a","name":"b"}"#).gets(BROKEN_RULE).names("/name"),
            row("no media type", Method::POST, "/products", MEDIA_TYPE).json("{}").header("content-type", ""),
            row("another media type", Method::POST, "/products", MEDIA_TYPE)
                .json("{}")
                .header("content-type", "text/plain"),
            row("a form", Method::POST, "/orders", MEDIA_TYPE)
                .json("customer_id=1")
                .header("content-type", "application/x-www-form-urlencoded"),
            row("a merge patch where none is read", Method::POST, "/products", MEDIA_TYPE)
                .json("{}")
                .header("content-type", "application/merge-patch+json"),
            row("a packed body", Method::POST, "/products", MEDIA_TYPE).json("{}").header("content-encoding", "gzip"),
            row("a change that is no object", Method::PATCH, "/products/{product}", BROKEN_RULE).json("[]"),
            row("a change that is torn", Method::PATCH, "/products/{product}", MALFORMED).json("{"),
            row("a body above the limit", Method::POST, "/products", ("payload-too-large", 413))
                .json(&" ".repeat(70_000)),
        ],
    )
    .await;
}

#[sqlx::test]
async fn conditions_routes_and_methods_that_fail(pool: PgPool) {
    let patch = |what, tag: &str| {
        row(what, Method::PATCH, "/products/{product}", CONFLICT).json(r#"{"price_cents":1}"#).header("if-match", tag)
    };
    check(
        pool,
        vec![
            patch("a stale tag", "\"0-0000000000000000\""),
            patch("a tag of somebody else", "\"other\""),
            patch("a weak tag", "W/\"1-0000000000000000\""),
            patch("a tag without quotes", "1-0").gets(PARAMETER).names("If-Match"),
            patch("an If-Match that names no tag", ""),
            row("deleting with a stale tag", Method::DELETE, "/products/{product}", CONFLICT)
                .header("if-match", "\"0\""),
            row("If-None-Match: * on a change", Method::PATCH, "/products/{product}", CONFLICT)
                .json(r#"{"price_cents":1}"#)
                .header("if-none-match", "*"),
            row("moving an order with a stale tag", Method::PATCH, "/orders/{pending}", CONFLICT)
                .json(r#"{"status":"cancelled"}"#)
                .header("if-match", "\"0-0000000000000000\""),
            get("an unknown route", "/nowhere", ("no-such-route", 404)),
            get("a route below a product", "/products/1/reviews", ("no-such-route", 404)),
            get("a path that climbs", "/products/..%2F..%2Fetc%2Fpasswd", PARAMETER).names("id"),
            row("a method that the route lacks", Method::PUT, "/products/{product}", ("method-not-allowed", 405))
                .json("{}"),
            row("deleting an order", Method::DELETE, "/orders/{order}", ("method-not-allowed", 405)),
            row("posting to a health check", Method::POST, "/livez", ("method-not-allowed", 405)),
        ],
    )
    .await;
}

#[sqlx::test]
async fn bytes_that_no_client_sends(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let before = database::digest(&app.pool).await;
    let mut invalid_utf8 = json_request("POST", "/products", "{\"name\":\"????\"}");
    let at = invalid_utf8.windows(4).position(|four| four == b"????").expect("the place");
    invalid_utf8[at..at + 4].copy_from_slice(b"\xff\xfe\xc0\x80");
    let mut raw = app.raw().await;
    raw.send(&invalid_utf8).await;
    raw.reply().await.problem("malformed-body", 400);
    for head in
        ["GET / HTTP/9.9\r\n\r\n", "GET\r\n\r\n", "\0\0\0\0\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
    {
        let mut raw = app.raw().await;
        raw.send(head.as_bytes()).await;
        let reply: Reply = raw.reply().await;
        assert!(reply.status.is_client_error() || reply.status == 505, "{head:?} got {reply:#?}");
    }
    assert_eq!(database::digest(&app.pool).await, before);
    app.get("/livez").await.expect(200);
}
