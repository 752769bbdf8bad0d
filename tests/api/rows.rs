//! The rows of bad requests, and the code that tries them.

use reqwest::Method;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::{Reply, TestApp, database, order, product};

/// One bad request. Its path and body may contain placeholders. `{product}` is a product of which 3
/// are left, `{order}` a delivered order, and `{pending}` a pending one. `{product_cursor}` is a
/// cursor of the list of products.
pub struct Row {
    what: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
    problem: (&'static str, u16),
    names: Option<&'static str>,
}

pub fn row(what: &'static str, method: Method, path: impl Into<String>, problem: (&'static str, u16)) -> Row {
    Row { what, method, path: path.into(), headers: Vec::new(), body: None, problem, names: None }
}

impl Row {
    pub fn json(mut self, body: &str) -> Self {
        self.body = Some(body.into());
        self.header("content-type", "application/json")
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    pub fn gets(mut self, problem: (&'static str, u16)) -> Self {
        self.problem = problem;
        self
    }

    pub fn names(mut self, place: &'static str) -> Self {
        self.names = Some(place);
        self
    }
}

/// Sends each row and checks the answer and the tables. It tries all rows before the test fails.
pub async fn check(pool: PgPool, rows: Vec<Row>) {
    let app = TestApp::start(pool).await;
    let product_id = app.product(product().stock(11)).await;
    app.product(product()).await;
    let order_id = app.order(order(1).item(product_id, 7)).await;
    for status in ["confirmed", "shipped", "delivered"] {
        app.move_order(order_id, status).await.expect(200);
    }
    let pending_id = app.order(order(2).item(product_id, 1)).await;
    let cursor = app.get("/products?limit=1").await.at("/next_cursor");
    let fill = |text: &str| {
        let text = text.replace("{product}", &product_id.to_string()).replace("{order}", &order_id.to_string());
        let text = text.replace("{pending}", &pending_id.to_string());
        text.replace("{product_cursor}", cursor.as_str().expect("a cursor"))
    };
    let before = database::digest(&app.pool).await;
    let mut faults = Vec::new();
    for row in rows {
        let mut request = app.request(row.method.clone(), &fill(&row.path));
        for (name, value) in &row.headers {
            request = request.header(*name, value.as_bytes());
        }
        if let Some(body) = &row.body {
            request = request.body(fill(body));
        }
        let reply = app.send(request).await;
        if let Some(fault) = fault(&row, &reply) {
            faults.push(format!("{}: {fault}\n  {} {}", row.what, reply.status, reply.text));
        }
        let after = database::digest(&app.pool).await;
        assert_eq!(after, before, "{}: something was written", row.what);
    }
    assert!(faults.is_empty(), "{} rows are wrong:\n{}", faults.len(), faults.join("\n"));
}

/// Words of the messages of the libraries that read JSON, queries and SQL.
const OF_LIBRARIES: [&str; 14] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "invalid digit",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
    "expected ",
    "floating point",
    "EOF while",
    "trailing characters",
    "recursion limit",
    "constraint",
];

/// Whether `detail` is the first error as a sentence.
fn tells_the_first(body: &Value) -> bool {
    let first = &body["errors"][0];
    body["detail"] == format!("{} {}.", place(first), first["detail"].as_str().unwrap_or_default())
}

/// Returns the place of an error as its detail begins with it.
fn place(error: &Value) -> String {
    match (error["pointer"].as_str(), error["parameter"].as_str(), error["header"].as_str()) {
        (Some(""), ..) => "The body".to_owned(),
        (Some(pointer), ..) => format!("`{}`", pointer.trim_start_matches('/')),
        (_, Some(name), _) | (_, _, Some(name)) => format!("`{name}`"),
        _ => "no place".to_owned(),
    }
}

/// Returns the fault of the answer to a row.
fn fault(row: &Row, reply: &Reply) -> Option<String> {
    let (kind, status) = row.problem;
    let body: Value = serde_json::from_str(&reply.text).unwrap_or_default();
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let named = |place: &str| {
        errors.iter().any(|e| ["pointer", "parameter", "header"].iter().any(|member| e[*member] == place))
    };
    if reply.status != status || body["status"] != status {
        Some(format!("expected {status}"))
    } else if reply.header("content-type").as_deref() != Some("application/problem+json") {
        Some("no problem".into())
    } else if body["type"] != format!("/problems/{kind}") {
        Some(format!("expected the type {kind}"))
    } else if row.names.is_some_and(|place| !named(place)) {
        Some(format!("names {errors:?} and not {:?}", row.names))
    } else if matches!(kind, "validation" | "invalid-parameter") && !tells_the_first(&body) {
        Some("detail is not the first error".into())
    } else if let Some(word) = OF_LIBRARIES.iter().find(|word| reply.text.contains(**word)) {
        Some(format!("\"{word}\" is a library's word"))
    } else if reply.header("cache-control").as_deref() != Some("no-store") {
        Some("may be cached".into())
    } else {
        None
    }
}
