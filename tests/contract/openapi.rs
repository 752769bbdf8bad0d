//! The tests of the API document. The committed document is the served one, and every example in it
//! works as written.

use reqwest::Method;
use serde_json::Value;
use sqlx::PgPool;

use super::sources::read;
use crate::support::{Reply, TestApp, seed};

#[sqlx::test]
async fn the_committed_document_is_the_one_that_is_served(pool: PgPool) {
    let committed = read("openapi/openapi.json");
    let built: Value = serde_json::from_str(&aside::http::document()).expect("a document");
    let parsed: Value = serde_json::from_str(&committed).expect("JSON");
    assert_eq!(parsed, built, "run `cargo run -- openapi > openapi/openapi.json`");
    let app = TestApp::start(pool).await;
    assert_eq!(app.get("/openapi.json").await.ok(), parsed);
}

#[sqlx::test]
async fn the_explorer_needs_no_other_host(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let page = app.get("/docs/").await;
    let page = if page.status.is_success() { page } else { app.get("/docs").await };
    assert!(page.expect(200).must_have("content-type").starts_with("text/html"));
    for attribute in ["src=\"", "href=\""] {
        let references: Vec<_> = page.text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(!references.is_empty(), "nothing was found that the explorer asks for by {attribute}");
        for reference in references {
            assert!(!reference.contains("//"), "the explorer asks another host for {reference}");
        }
    }
}

#[test]
fn every_operation_has_an_id_a_summary_and_problems() {
    let mut seen = 0;
    for operation in operations() {
        let about = format!("{} {}", operation.method, operation.path);
        assert!(operation.spec["operationId"].is_string(), "{about} has no id");
        assert!(operation.spec["summary"].is_string(), "{about} has no summary");
        let tags = operation.spec["tags"].to_string();
        if tags.contains("products") || tags.contains("orders") {
            seen += 1;
            let responses = operation.spec["responses"].as_object().expect("responses");
            let problem =
                |response: &Value| operation.resolved(response)["content"]["application/problem+json"].is_object();
            let (fine, broken): (Vec<_>, Vec<_>) =
                responses.iter().partition(|(status, _)| status.starts_with(['2', '3']));
            assert!(!fine.is_empty(), "{about} has no success");
            assert!(
                broken.iter().any(|(status, _)| status.starts_with('4') || *status == "default"),
                "{about} has no client error"
            );
            assert!(broken.iter().all(|(_, response)| problem(response)), "{about} has an error that is no problem");
        }
    }
    assert!(seen >= 9, "only {seen} operations are about products or orders");
}

#[sqlx::test]
async fn every_example_request_works_as_written(pool: PgPool) {
    let app = TestApp::builder(pool).build().await;
    seed::sample(&app.pool).await;
    let mut operations = operations();
    // Creations come first, because an order is changed on a new one. Deletions come last.
    operations.sort_by_key(|operation| (operation.method != Method::POST, operation.method == Method::DELETE));
    assert!(operations.len() >= 12, "the document lost its operations");
    for operation in operations {
        for body in operation.bodies() {
            let reply = operation.send(&app, body.as_ref()).await;
            let documented = operation.spec["responses"].as_object().expect("responses");
            let status = reply.status.as_str();
            assert!(
                reply.status.is_success() && documented.contains_key(status),
                "{} {} with {body:?} got what is not documented\n{reply:#?}",
                operation.method,
                operation.path
            );
        }
    }
}

struct Operation {
    document: Value,
    method: Method,
    path: String,
    spec: Value,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&read("openapi/openapi.json")).expect("JSON");
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, spec) in methods.as_object().expect("methods") {
            let method = method.to_uppercase().parse().expect("a method");
            found.push(Operation { document: document.clone(), method, path: path.clone(), spec: spec.clone() });
        }
    }
    found
}

impl Operation {
    /// Every form of the request: once for each media type and example of its body, or once without
    /// a body.
    fn bodies(&self) -> Vec<Option<(String, Value)>> {
        let content = self.spec["requestBody"]["content"].as_object();
        let bodies = content.into_iter().flatten().flat_map(|(media_type, content)| {
            let named =
                content["examples"].as_object().into_iter().flatten().map(|(_, example)| example["value"].clone());
            let mut examples: Vec<Value> = named.collect();
            if examples.is_empty() {
                examples.push(
                    self.example(content).unwrap_or_else(|| panic!("{} {} has no example", self.method, self.path)),
                );
            }
            examples.into_iter().map(|example| Some((media_type.clone(), example)))
        });
        let mut bodies: Vec<_> = bodies.collect();
        // The same change under a second media type would change nothing.
        bodies.dedup_by(|a, b| a.as_ref().map(|(_, body)| body) == b.as_ref().map(|(_, body)| body));
        if bodies.is_empty() { vec![None] } else { bodies }
    }

    async fn send(&self, app: &TestApp, body: Option<&(String, Value)>) -> Reply {
        let mut path = self.path.clone();
        let mut query = Vec::new();
        for parameter in self.spec["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a name");
            let Some(example) = self.example(parameter) else {
                let required = parameter["required"] == true;
                assert!(!required, "{} {} has no example of {name}", self.method, self.path);
                continue;
            };
            let text = example.as_str().map_or_else(|| example.to_string(), String::from);
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{name}}}"), &text),
                Some("query") => query.push((name.to_owned(), text)),
                _ => {}
            }
        }
        let mut request = app.request(self.method.clone(), &path).query(&query);
        if let Some((media_type, body)) = body {
            request = request.header("content-type", media_type).body(body.to_string());
        }
        app.send(request).await
    }

    /// Resolves a reference.
    fn resolved<'a>(&'a self, of: &'a Value) -> &'a Value {
        let Some(reference) = of["$ref"].as_str() else { return of };
        let found = self.document.pointer(reference.trim_start_matches('#'));
        found.unwrap_or_else(|| panic!("the document has no {reference}"))
    }

    /// The example of a parameter, of a body's content or of a schema. The example of an object is
    /// made of the examples of its members.
    fn example(&self, of: &Value) -> Option<Value> {
        let resolved = self.resolved(of);
        let given = [&resolved["example"], &resolved["examples"][0]].into_iter().find(|example| !example.is_null());
        if let Some(example) = given {
            return Some(example.clone());
        }
        if let Some(properties) = resolved["properties"].as_object() {
            let members = properties.iter().filter_map(|(name, schema)| Some((name.clone(), self.example(schema)?)));
            return Some(Value::Object(members.collect()));
        }
        if resolved["type"] == "array" {
            return Some(Value::Array(vec![self.example(&resolved["items"])?]));
        }
        let schema = &resolved["schema"];
        if schema.is_null() { None } else { self.example(schema) }
    }
}
