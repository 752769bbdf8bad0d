//! Parses the query of a request as strictly as its body. Unknown and repeated parameters are
//! refused. If a misspelt filter were ignored, the answer would belong to another question.

use std::collections::HashSet;

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::{extract::Id, problem::Problem, target};
use crate::domain::{DomainError, ListKind, PageRequest, orders::OrderStatus};

/// The parameters of a query. The types of the fields below parse themselves and contain their
/// rules.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// The names of the parameters in a query.
pub fn names(query: &str) -> impl Iterator<Item = String> {
    pairs(query).map(|(name, _)| name)
}

/// The names of a query in form encoding, each with its value as bytes.
fn pairs(query: &str) -> impl Iterator<Item = (String, Vec<u8>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (String::from_utf8_lossy(&decoded(name)).into_owned(), decoded(value))
    })
}

fn decoded(text: &str) -> Vec<u8> {
    target::decoded(text.replace('+', " ").as_bytes(), |_| true).into_owned()
}

fn text(value: Vec<u8>) -> Result<String, &'static str> {
    match String::from_utf8(value) {
        Ok(text) if text.contains('\0') => Err("must not contain the character U+0000"),
        Ok(text) => Ok(text),
        Err(_) => Err("must be UTF-8"),
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let texts = |(name, value)| match text(value) {
        Ok(value) => Ok((name, value)),
        Err(rule) => Err(Problem::parameter(name, rule)),
    };
    let mut parameters = Map::new();
    for (name, value) in pairs(query).map(texts).collect::<Result<Vec<_>, _>>()? {
        if parameters.insert(name.clone(), Value::String(value)).is_some() {
            return Err(Problem::parameter(name, "must be given once"));
        }
    }
    serde_path_to_error::deserialize(Value::Object(parameters)).map_err(|error| {
        let rule = error.inner().to_string();
        let missing = rule.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let name = error.path().iter().next().map(|segment| match segment {
            Segment::Map { key } => key.clone(),
            _ => String::new(),
        });
        match missing {
            Some(name) => Problem::parameter(name, "must be given"),
            // The library's own message for a parameter that the router has already refused.
            None if rule.starts_with("unknown field") => Problem::parameter(name.unwrap_or_default(), UNKNOWN),
            None => Problem::parameter(name.unwrap_or_default(), rule),
        }
    })
}

/// The rule for parameters that a route does not have.
pub const UNKNOWN: &str = "is not a parameter of this route";

/// Parses the slice of a list from the parameters `limit` and `cursor`.
pub fn page(kind: ListKind, limit: Option<WholeNumber>, cursor: Option<&str>) -> Result<PageRequest, Problem> {
    let limit = limit.map(|WholeNumber(limit)| limit);
    PageRequest::parse(kind, limit, cursor).map_err(|broken| DomainError::Invalid(broken).into())
}

/// A number as a parameter. The domain checks its limits.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct WholeNumber(pub i64);

impl TryFrom<String> for WholeNumber {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "must be a whole number")
    }
}

/// A status as a parameter.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct StatusText(pub OrderStatus);

impl TryFrom<String> for StatusText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        OrderStatus::parse(&text).map(Self).ok_or("must be one of pending, confirmed, shipped, delivered, cancelled")
    }
}

/// An id as a parameter.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct IdText(pub i64);

impl TryFrom<String> for IdText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Id::parse(&text).map(|Id(id)| Self(id))
    }
}

/// Up to 100 ids separated by commas. A repeated id counts once, at its first position.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ids(pub Vec<i64>);

impl TryFrom<String> for Ids {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const RULE: &str = "must be 1 to 100 whole numbers from 1, separated by commas";
        // The ids are counted before they are parsed or deduplicated, so a long list costs nothing.
        if text.split(',').take(101).count() > 100 {
            return Err(RULE);
        }
        let ids = text.split(',').map(Id::parse).collect::<Result<Vec<_>, _>>().map_err(|_| RULE)?;
        let mut seen = HashSet::with_capacity(ids.len());
        Ok(Self(ids.into_iter().filter_map(|Id(id)| seen.insert(id).then_some(id)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Search {
        customer: IdText,
        limit: Option<WholeNumber>,
        ids: Option<Ids>,
        text: Option<String>,
    }

    async fn search(uri: &str) -> Result<Search, Problem> {
        let (mut parts, ()) = axum::http::Request::get(uri).body(()).unwrap().into_parts();
        Query::from_request_parts(&mut parts, &()).await.map(|Query(search)| search)
    }

    #[tokio::test]
    async fn each_fault_of_a_query_names_its_parameter() {
        let many = format!("/?customer=1&ids={}", vec!["1"; 101].join(","));
        let cases = [
            ("/", "customer"),
            ("/?customer=", "customer"),
            ("/?customer=0", "customer"),
            ("/?customer=1&customer=2", "customer"),
            ("/?customer=1&limit=99999999999999999999", "limit"),
            ("/?customer=1&limit=ten", "limit"),
            ("/?customer=1&colour=red", "colour"),
            ("/?customer=1&ids=", "ids"),
            ("/?customer=1&ids=1,,2", "ids"),
            ("/?customer=1&ids=1,x", "ids"),
            (&many, "ids"),
            ("/?customer=1&text=%00", "text"),
            ("/?customer=1&text=%FF", "text"),
            ("/?customer=1&text=%EF%BF", "text"),
            ("/?customer=9007199254740992", "customer"),
        ];
        for (uri, parameter) in cases {
            let response = search(uri).await.expect_err(uri).into_response();
            assert_eq!(response.status().as_u16(), 400, "{uri}");
            let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["errors"][0]["parameter"], parameter, "{uri} answered {answer}");
            // These words are part of the query libraries' messages.
            for word in ["expected", "invalid type", "unknown field", "missing field", "variant"] {
                assert!(!answer.to_string().contains(word), "{uri} answered {answer}");
            }
        }
    }

    #[test]
    fn a_status_is_one_of_the_words_of_the_rule() {
        let rule = StatusText::try_from("lost".to_owned()).unwrap_err();
        let words: Vec<_> = OrderStatus::ALL.iter().map(|status| status.as_str()).collect();
        assert_eq!(rule, format!("must be one of {}", words.join(", ")));
    }

    #[tokio::test]
    async fn what_is_utf8_arrives_as_it_was_sent() {
        for (query, expected) in
            [("A%EF%BF%BDB", "A\u{FFFD}B"), ("A%09B", "A\tB"), ("a+b%2Bc", "a b+c"), ("%zz", "%zz")]
        {
            let search = search(&format!("/?customer=1&text={query}")).await.unwrap();
            assert_eq!(search.text.as_deref(), Some(expected));
        }
    }

    #[tokio::test]
    async fn ids_keep_their_order_and_repeated_ones_count_once() {
        let search = search("/?customer=1&ids=3,1,3,2,1").await.unwrap();
        assert_eq!(search.ids, Some(Ids(vec![3, 1, 2])));
    }
}
