//! Parses the bytes of a body into a typed request. Parsing is strict: the body must be an object
//! without unknown or repeated fields, and without values that the database can't store. A JSON
//! pointer names every fault, and the texts are this service's own.

mod raw;
mod shape;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::problem::{Kind, Problem};
pub use shape::{Shape, Shapes, UnknownSchema};

/// Parses a body. Broken syntax is a 400. A body of the wrong shape is a 422 that lists its faults,
/// at most a hundred.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], shape: &Shape) -> Result<T, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(&Kind::MALFORMED_BODY, "The body is empty."));
    }
    let given: &RawValue = serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("at line {}, column {}", error.line(), error.column());
        Problem::new(&Kind::MALFORMED_BODY, format!("The body is not valid JSON {place}."))
    })?;
    let value = shape.check(given).map_err(Problem::validation)?;
    serde_json::from_value(value).map_err(|_| {
        Problem::validation([(String::new(), "must have the form that the API's document describes".into())])
    })
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Basket {
        customer: i64,
        items: Vec<Item>,
        note: Option<String>,
        state: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Item {
        quantity: i32,
    }

    fn basket() -> Shape {
        let schemas = json!({
            "Basket": {
                "type": "object",
                "required": ["customer", "items"],
                "properties": {
                    "items": { "type": "array", "items": { "$ref": "#/components/schemas/Item" } },
                    "customer": { "type": "integer", "format": "int64", "minimum": 1, "maximum": 9_007_199_254_740_991_i64 },
                    "note": { "type": ["string", "null"] },
                    "state": { "type": "string", "enum": ["open", "closed"] },
                },
            },
            "Item": {
                "type": "object",
                "required": ["quantity"],
                "properties": { "quantity": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 1000 } },
            },
        });
        let body =
            json!({ "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Basket" } } } });
        let document = json!({
            "paths": { "/baskets": { "post": { "requestBody": body } } },
            "components": { "schemas": schemas },
        });
        Shapes::of(&document).unwrap().get("Basket").unwrap().clone()
    }

    async fn refused(body: &[u8]) -> (u16, Value) {
        let text = String::from_utf8_lossy(body);
        let response = parse::<Basket>(body, &basket()).expect_err(&text).into_response();
        let status = response.status().as_u16();
        let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&answer).unwrap())
    }

    #[tokio::test]
    async fn each_fault_of_a_body_has_a_status_and_a_place() {
        let cases: [(&[u8], u16, Option<&str>); 28] = [
            (b"", 400, None),
            (b" \n", 400, None),
            (b"{", 400, None),
            (b"nonsense", 400, None),
            (b"{\"customer\":1,\"items\":[]} {}", 400, None),
            (b"{\"customer\":1,\"items\":[],\"note\":\"\xff\"}", 400, None),
            (b"{\"customer\":1,\"items\":[],\"note\":\"\x00\"}", 400, None),
            (b"{\"customer\":1e400,\"items\":[]}", 422, Some("/customer")),
            (b"{\"customer\":1,\"items\":[],\"note\":\"\\ud800\"}", 422, Some("/note")),
            (b"{\"items\":[[1,2]]", 400, None),
            (b"{\"customer\":\"1\",", 400, None),
            (b"[]", 422, Some("")),
            (b"[1,[],null]", 422, Some("")),
            (b"\"x\"", 422, Some("")),
            (b"null", 422, Some("")),
            (b"{}", 422, Some("/customer")),
            (b"{\"customer\":\"1\",\"items\":[]}", 422, Some("/customer")),
            (b"{\"customer\":99999999999999999999,\"items\":[]}", 422, Some("/customer")),
            (b"{\"customer\":1,\"customer\":2,\"items\":[]}", 422, Some("/customer")),
            (b"{\"customer\":1,\"items\":{}}", 422, Some("/items")),
            (b"{\"customer\":1,\"items\":[{\"quantity\":1},[2]]}", 422, Some("/items/1")),
            (b"{\"customer\":1,\"items\":[{\"quantity\":2147483648}]}", 422, Some("/items/0/quantity")),
            (b"{\"customer\":1,\"items\":[{\"quantity\":1.5}]}", 422, Some("/items/0/quantity")),
            (b"{\"customer\":1,\"items\":[{}]}", 422, Some("/items/0/quantity")),
            (b"{\"customer\":1,\"items\":[],\"a/b\":1}", 422, Some("/a~1b")),
            (b"{\"customer\":1,\"items\":[],\"note\":\"a\\u0000b\"}", 422, Some("/note")),
            (b"{\"customer\":1,\"items\":[],\"state\":null}", 422, Some("/state")),
            (b"{\"customer\":1,\"items\":[],\"state\":\"lost\"}", 422, Some("/state")),
        ];
        for (bytes, status, pointer) in cases {
            let (answered, problem) = refused(bytes).await;
            let body = String::from_utf8_lossy(bytes);
            assert_eq!(answered, status, "{body}");
            assert_eq!(problem.pointer("/errors/0/pointer").and_then(Value::as_str), pointer, "{body}: {problem}");
            // These words are part of the JSON library's messages.
            for word in
                ["expected", "invalid", "unknown", "missing field", "EOF", "variant", "trailing", "i32", "i64", "`/"]
            {
                assert!(!problem.to_string().contains(word), "{body}: {problem}");
            }
        }
    }

    #[tokio::test]
    async fn all_that_is_wrong_is_named_in_one_answer_and_first_comes_the_first() {
        let (_, problem) = refused(br#"{"note":7,"colour":"red","items":[{"quantity":"many"},{}]}"#).await;
        let places: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
        assert_eq!(places, ["/note", "/colour", "/items/0/quantity", "/items/1/quantity", "/customer"]);
        assert_eq!(problem["detail"], "`note` must be a string.");
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_not_a_nul() {
        let body = br#"{"customer":1.0,"items":[{"quantity":1e0}],"note":"\\u0000"}"#;
        let basket: Basket = parse(body, &basket()).unwrap();
        assert_eq!((basket.note.as_deref(), basket.customer, basket.items[0].quantity), (Some("\\u0000"), 1, 1));
    }
}
