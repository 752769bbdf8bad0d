//! From the bytes of a body to a typed request, strictly: an object, no unknown or repeated fields, nothing that the database
//! can't keep, and every fault named by a JSON pointer.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::problem::{Kind, Problem};

/// Parses a body: broken syntax is a 400, a body of the wrong shape a 422.
///
/// Reads it twice. The first reading sees the whole of it, so that broken syntax is found before a wrong shape is, and refuses
/// what types would let through; the second one makes the value.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(&Kind::MALFORMED_BODY, "The body is empty."));
    }
    let whole: Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(&Kind::MALFORMED_BODY, format!("Not JSON: {error}.")))?;
    let mut faults = Vec::new();
    look_at_object(&whole, String::new(), &mut faults);
    if !faults.is_empty() {
        return Err(Problem::validation(faults));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| wrong_shape(error.inner(), pointer(error.path())))
}

/// Bodies are objects, and lists in them are lists of objects. Derived `Deserialize` would also take an array with the fields
/// in the order of the Rust source, which no client should be able to depend on.
fn look_at_object(value: &Value, pointer: String, faults: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                look_at_field(field, format!("{pointer}/{}", escaped(key)), faults);
            }
        }
        _ => faults.push((pointer, "must be an object".into())),
    }
}

fn look_at_field(value: &Value, pointer: String, faults: &mut Vec<(String, String)>) {
    match value {
        // Postgres has no NUL in text.
        Value::String(text) if text.contains('\0') => {
            faults.push((pointer, "must not contain the character U+0000".into()))
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look_at_object(item, format!("{pointer}/{index}"), faults);
            }
        }
        Value::Object(_) => look_at_object(value, pointer, faults),
        _ => {}
    }
}

/// The second reading knows that the body is JSON, so whatever it finds is a wrong shape, also what serde calls wrong syntax (a
/// number where one of several words is due).
fn wrong_shape(error: &serde_json::Error, pointer: String) -> Problem {
    let message = error.to_string();
    let rule = message.rsplit_once(" at line ").map_or(message.as_str(), |(rule, _)| rule);
    // A field that is missing or repeated is reported at its parent.
    let named = |what: &str| rule.strip_prefix(what).and_then(|rest| rest.strip_suffix('`'));
    let (pointer, rule) = match (named("missing field `"), named("duplicate field `")) {
        (Some(name), _) => (format!("{pointer}/{name}"), "must be given".into()),
        (_, Some(name)) => (format!("{pointer}/{name}"), "must be given once".into()),
        _ if rule == "expected value" => (pointer, "must be a string".into()),
        _ => (pointer, in_words_of_json(rule)),
    };
    Problem::validation([(pointer, rule)])
}

/// Names types as a client knows them.
fn in_words_of_json(rule: &str) -> String {
    let Some((found, expected)) = rule.rsplit_once(", expected ") else {
        return rule.to_owned();
    };
    let expected = match expected {
        "i64" => "a whole number of 64 bits",
        "i32" => "a whole number of 32 bits",
        "a sequence" => "an array",
        other => other,
    };
    let found = found.replace("sequence", "array").replace(" map", " object");
    format!("{found}, expected {expected}")
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", escaped(key))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// A key as a segment of a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Basket {
        customer: i64,
        items: Vec<Item>,
        note: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Item {
        quantity: i32,
    }

    #[tokio::test]
    async fn each_fault_of_a_body_has_a_status_and_a_place() {
        let cases: [(&[u8], u16, &str); 24] = [
            (b"", 400, ""),
            (b" \n", 400, ""),
            (b"{", 400, ""),
            (b"nonsense", 400, ""),
            (b"{\"customer\":1,\"items\":[]} {}", 400, ""),
            (b"{\"customer\":1,\"items\":[],\"note\":\"\xff\"}", 400, ""),
            (b"{\"customer\":1,\"items\":[],\"note\":\"\x00\"}", 400, ""),
            (b"[]", 422, "\"pointer\":\"\""),
            (b"[1,[],null]", 422, "\"pointer\":\"\""),
            (b"\"x\"", 422, "\"pointer\":\"\""),
            (b"null", 422, "\"pointer\":\"\""),
            (b"{\"items\":[[1,2]]", 400, ""),
            (b"{\"customer\":\"1\",", 400, ""),
            (b"{}", 422, "\"pointer\":\"/customer\""),
            (b"{\"customer\":\"1\",\"items\":[]}", 422, "\"pointer\":\"/customer\""),
            (b"{\"customer\":99999999999999999999,\"items\":[]}", 422, "\"pointer\":\"/customer\""),
            (b"{\"customer\":1,\"customer\":2,\"items\":[]}", 422, "\"pointer\":\"/customer\""),
            (b"{\"customer\":1,\"items\":{}}", 422, "\"pointer\":\"/items\""),
            (b"{\"customer\":1,\"items\":[{\"quantity\":1},[2]]}", 422, "\"pointer\":\"/items/1\""),
            (b"{\"customer\":1,\"items\":[{\"quantity\":2147483648}]}", 422, "\"pointer\":\"/items/0/quantity\""),
            (b"{\"customer\":1,\"items\":[{\"quantity\":1.5}]}", 422, "expected a whole number of 32 bits"),
            (b"{\"customer\":1,\"items\":[{}]}", 422, "\"pointer\":\"/items/0/quantity\""),
            (b"{\"customer\":1,\"items\":[],\"a/b\":1}", 422, "\"pointer\":\"/a~1b\""),
            (b"{\"customer\":1,\"items\":[],\"note\":\"a\\u0000b\"}", 422, "\"pointer\":\"/note\""),
        ];
        for (bytes, status, needle) in cases {
            let body = String::from_utf8_lossy(bytes);
            let response = parse::<Basket>(bytes).expect_err(&body).into_response();
            assert_eq!(response.status().as_u16(), status, "{body}");
            let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let answer = String::from_utf8(answer.to_vec()).unwrap();
            assert!(answer.contains(needle), "{body} answered {answer}");
        }
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_not_a_nul() {
        let basket: Basket = parse(br#"{"customer":1,"items":[{"quantity":1}],"note":"\\u0000"}"#).unwrap();
        assert_eq!(basket.note.as_deref(), Some("\\u0000"));
    }
}
