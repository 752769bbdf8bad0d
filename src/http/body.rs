//! From the bytes of a body to a typed request, strictly: objects only, no unknown or repeated fields, no NUL characters, and
//! every fault named by a JSON pointer.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, error::Category};
use serde_path_to_error::Segment;

use super::problem::{Kind, Problem};

/// Parses a body: broken syntax is a 400, a body of the wrong shape a 422.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(&Kind::MALFORMED_BODY, "The body is empty."));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        refusal(error.inner(), pointer)
    })?;
    json.end().map_err(|error| refusal(&error, String::new()))?;
    refuse_nul(bytes)?;
    Ok(value)
}

/// A list of objects. For fields that hold one: `#[serde(deserialize_with = "objects")]`.
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(list: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(list)?.into_iter().map(|Object(value)| value).collect())
}

/// A value written as a JSON object. Derived `Deserialize` would also take an array with the fields in the order of the Rust
/// source, which no client should be able to depend on.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        json.deserialize_map(Fields(PhantomData))
    }
}

/// A field of a merge patch: not named, named as `null`, or named with a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(json)?.map_or(Self::Null, Self::Value))
    }
}

fn refusal(error: &serde_json::Error, pointer: String) -> Problem {
    let message = error.to_string();
    match error.classify() {
        Category::Data => {
            let rule = message.rsplit_once(" at line ").map_or(message.as_str(), |(rule, _)| rule);
            // A missing field is reported at its parent.
            let pointer = match rule.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
                Some(name) => format!("{pointer}/{name}"),
                None => pointer,
            };
            Problem::validation([(pointer, in_words_of_json(rule))])
        }
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::new(&Kind::MALFORMED_BODY, format!("Not JSON: {message}."))
        }
    }
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

/// Postgres has no NUL in text. In JSON it can only be written as an escape, so bodies without one cost a search only.
fn refuse_nul(bytes: &[u8]) -> Result<(), Problem> {
    if !bytes.windows(6).any(|window| window == b"\\u0000") {
        return Ok(());
    }
    let mut found = Vec::new();
    collect_nul(&serde_json::from_slice(bytes).unwrap_or_default(), String::new(), &mut found);
    if found.is_empty() { Ok(()) } else { Err(Problem::validation(found)) }
}

fn collect_nul(value: &Value, pointer: String, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.contains('\0') => {
            found.push((pointer, "must not contain the character U+0000".into()))
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_nul(item, format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                collect_nul(field, format!("{pointer}/{}", escaped(key)), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Basket {
        customer: i64,
        #[serde(deserialize_with = "objects")]
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
        let cases: [(&[u8], u16, &str); 22] = [
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
            (b"{}", 422, "\"pointer\":\"/customer\""),
            (b"{\"customer\":\"1\",\"items\":[]}", 422, "\"pointer\":\"/customer\""),
            (b"{\"customer\":99999999999999999999,\"items\":[]}", 422, "\"pointer\":\"/customer\""),
            (b"{\"customer\":1,\"customer\":2,\"items\":[]}", 422, "duplicate field `customer`"),
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

    #[test]
    fn a_patch_tells_null_from_absent() {
        #[derive(Deserialize)]
        struct Patch {
            #[serde(default)]
            a: Field<i32>,
            #[serde(default)]
            b: Field<i32>,
            #[serde(default)]
            c: Field<i32>,
        }
        let patch: Patch = parse(br#"{"a":null,"b":7}"#).unwrap();
        assert_eq!((patch.a, patch.b, patch.c), (Field::Null, Field::Value(7), Field::Absent));
    }
}
