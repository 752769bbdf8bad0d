//! `Idempotency-Key`: the header by which a client may repeat `POST /orders` without ordering
//! twice.
//!
//! The key is a structured string (`"8e03…"`). Bare keys, which many clients send, are accepted
//! with the same meaning. The domain records the answer in the transaction of the order.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, request::Parts},
};
use serde::Serialize;

use super::problem::Problem;

use crate::domain::orders::Idempotency;

/// The name of the request header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that marks a repeated answer.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const RULE: &str = "must be given once, with 1 to 255 visible ASCII characters, in quotes or bare";

/// The idempotency key of a request, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// Binds the key to its request: the route and the parsed body. The order of fields and white
    /// space therefore make no difference.
    pub fn bind(self, route: &str, body: &impl Serialize) -> Result<Option<Idempotency>, Problem> {
        let Some(key) = self.0 else {
            return Ok(None);
        };
        let body = serde_json::to_string(body).map_err(|_| Problem::internal("a request has no JSON form"))?;
        let fingerprint = aside_cache::digest(format!("{route}\n{body}").as_bytes());
        Ok(Some(Idempotency { key, fingerprint: fingerprint.to_be_bytes().to_vec() }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(Self(None)),
            (Some(value), None) => match parse(value) {
                Some(key) => Ok(Self(Some(key))),
                None => Err(Problem::header("Idempotency-Key", RULE)),
            },
            (Some(_), Some(_)) => Err(Problem::header("Idempotency-Key", RULE)),
        }
    }
}

fn parse(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?.trim();
    let key = match text.strip_prefix('"') {
        Some(open) => unescape(open.strip_suffix('"')?)?,
        None if text.contains('"') => return None,
        None => text.to_owned(),
    };
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    ((1..=255).contains(&key.len()) && visible).then_some(key)
}

/// Decodes the content of a structured string (RFC 9651, section 3.3.3). Only quotes and
/// backslashes are escaped.
fn unescape(inside: &str) -> Option<String> {
    let mut key = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => key.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            other => key.push(other),
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_structured_string_or_bare() {
        let longest = "k".repeat(255);
        let too_long = "k".repeat(256);
        let cases = [
            ("\"8e03978e\"", Some("8e03978e")),
            ("8e03978e", Some("8e03978e")),
            (" 8e03978e ", Some("8e03978e")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            (&longest, Some(longest.as_str())),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("\"open", None),
            ("close\"", None),
            ("\"a\"b\"", None),
            (r#""a\b""#, None),
            ("two words", None),
            ("\"two words\"", None),
            ("\"a\"; q=1", None),
            (&too_long, None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse(&value.parse().unwrap()).as_deref(), expected, "{value}");
        }
        assert_eq!(parse(&HeaderValue::from_bytes(b"\xc3\xa9").unwrap()), None);
    }

    #[test]
    fn the_fingerprint_follows_the_route_and_the_body() {
        let bind = |route: &str, body: &[i64]| {
            let bound = IdempotencyKey(Some("k".into())).bind(route, &body).unwrap();
            bound.unwrap().fingerprint
        };
        assert_eq!(bind("POST /orders", &[1]), bind("POST /orders", &[1]));
        assert_ne!(bind("POST /orders", &[1]), bind("POST /orders", &[2]));
        assert_ne!(bind("POST /orders", &[1]), bind("POST /returns", &[1]));
    }
}
