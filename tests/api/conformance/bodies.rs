//! Bodies and queries. The service accepts the input that its document describes. A refusal names
//! every fault, in words of the service and not of a library.

use sqlx::PgPool;

use super::table::{Row, Table, check, row};
use crate::support::{TestApp, database, eventually, product};

const JSON_SCHEMA: &str = "JSON Schema Validation, 6.1.1; RFC 8259, 6";
const OWN: &str = "own document";
const POINTER: &str = "RFC 9457, 3; RFC 6901";

/// Returns a row whose body has this price.
fn priced(rule: &'static str, price: &str) -> Row {
    let body = format!(
        r#"{{"name":"a","department":"b","brand":"c","category":"d","type":"e","price_cents":{price},"currency":"USD","stock":1}}"#
    );
    row(JSON_SCHEMA, rule).request("POST /products").json(&body)
}

/// Returns a row whose body has this name.
fn named(rule: &'static str, name: &str) -> Row {
    let body = format!(
        r#"{{"name":"{name}","department":"b","brand":"c","category":"d","type":"e","price_cents":1,"currency":"USD","stock":1}}"#
    );
    row("Unicode, UAX 9 and DerivedCoreProperties", rule).request("POST /products").json(&body)
}

fn ordered(rule: &'static str, customer: &str) -> Row {
    let body = format!(r#"{{"customer_id":{customer},"items":[{{"product_id":{{product}},"quantity":1}}]}}"#);
    row("RFC 7493, 2.2", rule).request("POST /orders").json(&body)
}

fn unknown(method: &str, path: &str) -> Row {
    row(OWN, "a parameter that the route doesn't have is refused")
        .request(&format!("{method} {path}?x=1&y=2"))
        .problem("invalid-parameter", 400)
}

pub fn table() -> Table {
    let broken = |row: Row, place| row.problem("validation", 422).names(place);
    Table {
        topic: "Bodies and queries",
        settings: |_| {},
        rows: vec![
            priced("`299.0` is an integer", "299.0").status(201).says("/price_cents", 299),
            priced("so is `2.99e2`", "2.99e2").status(201).says("/price_cents", 299),
            priced("so is `-0`", "-0").status(201).says("/price_cents", 0),
            broken(priced("`299.5` is none", "299.5"), "/price_cents")
                .says("/errors/0/detail", "must be a whole number"),
            broken(priced("nor is `\"299\"`", "\"299\""), "/price_cents")
                .says("/errors/0/detail", "must be a whole number"),
            broken(priced("a number beyond its bounds is told them", "1e30"), "/price_cents")
                .says("/errors/0/detail", "must be between 0 and 1000000000"),
            ordered("an id is one that JavaScript can read", "9007199254740991")
                .status(201)
                .says("/customer_id", 9_007_199_254_740_991_i64),
            broken(ordered("one above is refused", "9007199254740992"), "/customer_id")
                .says("/errors/0/detail", "must be between 1 and 9007199254740991"),
            row("RFC 7493, 2.2", "also in a path")
                .request("GET /products/9007199254740992")
                .problem("invalid-parameter", 400)
                .names("id"),
            row("RFC 7493, 2.2", "also in a query")
                .request("GET /orders?customer_id=9007199254740992")
                .problem("invalid-parameter", 400)
                .names("customer_id"),
            broken(named("an invisible name is refused", "\\u200b"), "/name"),
            broken(named("also one of filler letters", "\\u3164"), "/name"),
            broken(named("also one that turns the text around it", "a\\u202eb"), "/name"),
            broken(named("also one that begins with a byte order mark", "\\ufeffx"), "/name"),
            broken(named("also one of tags", "\\udb40\\udc41"), "/name"),
            named("a joiner inside of a word is part of it", "\\u0645\\u06cc\\u200c\\u062e").status(201),
            row(POINTER, "all missing fields are named in one answer, and the detail is the first")
                .request("POST /products")
                .json("{}")
                .problem("validation", 422)
                .says("/detail", "`name` must be given.")
                .names("/department")
                .names("/brand")
                .names("/category")
                .names("/type")
                .names("/price_cents")
                .names("/currency")
                .names("/stock"),
            row(POINTER, "so are all other faults, each at its place")
                .request("POST /orders")
                .json(r#"{"customer_id":"bob","colour":1,"items":[{"product_id":1,"quantity":1.5},7]}"#)
                .problem("validation", 422)
                .says("/detail", "`customer_id` must be a whole number.")
                .names("/colour")
                .names("/items/0/quantity")
                .names("/items/1"),
            row(POINTER, "no word of the library that reads JSON is repeated")
                .request("PATCH /orders/{order}")
                .json(r#"{"status":"lost"}"#)
                .problem("validation", 422)
                .says("/detail", "`status` must be one of pending, confirmed, shipped, delivered, cancelled."),
            row(POINTER, "nor where the body is no JSON")
                .request("POST /products")
                .json("{\"name\":")
                .problem("malformed-body", 400)
                .says("/detail", "The body is not valid JSON at line 1, column 8."),
            unknown("GET", "/products/{product}").names("x").names("y"),
            unknown("HEAD", "/products/{product}"),
            unknown("GET", "/products").names("x"),
            unknown("GET", "/products/top").names("x"),
            unknown("POST", "/products").names("x"),
            unknown("PATCH", "/products/{product}").names("x"),
            unknown("DELETE", "/products/{product}").names("x"),
            unknown("GET", "/orders/{order}").names("x"),
            unknown("GET", "/orders").names("x"),
            unknown("GET", "/livez").names("x"),
            unknown("GET", "/problems").names("x"),
            row(OWN, "so is one without a name")
                .request("GET /products?=1")
                .problem("invalid-parameter", 400)
                .says("/detail", "A parameter without a name is not a parameter of this route."),
            row(OWN, "every storable text can be requested: a category with U+FFFD")
                .request("GET /products?category=A%EF%BF%BDB")
                .status(200),
            row(OWN, "also one with a tab").request("GET /products?category=A%09B").status(200),
            row(OWN, "text that is not UTF-8 cannot be stored")
                .request("GET /products?category=%FF")
                .problem("invalid-parameter", 400)
                .names("category"),
        ],
    }
}

#[sqlx::test]
async fn bodies_and_queries_are_taken_as_the_document_says(pool: PgPool) {
    check(pool, table()).await;
}

/// Every category that Postgres accepts can be listed, no matter which program stored it. A change
/// of the category shows in its list.
#[sqlx::test]
async fn what_can_be_stored_can_be_listed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().with("category", "A\u{FFFD}B")).await;
    assert_eq!(app.get("/products?category=A%EF%BF%BDB").await.expect(200).ids(), [id]);
    for (category, query) in [("A\tB", "A%09B"), ("A\u{1}", "A%01"), ("\u{200B}", "%E2%80%8B"), (" A", "+A")] {
        let path = format!("/products?category={query}");
        assert_eq!(app.get(&path).await.expect(200).ids(), [0; 0], "{category:?}");
        let sql = "update products set category = $1 where id = $2";
        sqlx::query(sql).bind(category).bind(id).execute(&app.pool).await.expect("another program's change");
        eventually("the list shows it", || async { (app.get(&path).await.expect(200).ids() == [id]).then_some(()) })
            .await;
    }
    let stored = database::one(&app.pool, &format!("select char_length(category) from products where id = {id}")).await;
    assert_eq!(stored, 2);
}
