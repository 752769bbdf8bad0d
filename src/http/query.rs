//! The query of a request, as strictly as its body: unknown and repeated parameters are refused, because a misspelt filter that
//! is ignored answers another question than the one asked.

use std::collections::HashSet;

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::{extract::Id, problem::Problem};
use crate::domain::{DomainError, ListKind, PageRequest};

/// The parameters of a query. The types of the fields below parse themselves and know their rules.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        type Pairs = axum::extract::Query<Vec<(String, String)>>;
        let Ok(axum::extract::Query(pairs)) = Pairs::try_from_uri(&parts.uri) else {
            return Err(Problem::parameter("", "the query is not a list of name=value"));
        };
        parse(pairs).map(Self)
    }
}

fn parse<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, Problem> {
    let mut parameters = Map::new();
    for (name, value) in pairs {
        // Bytes that are not UTF-8 arrive as U+FFFD.
        if value.contains(['\0', '\u{FFFD}']) {
            return Err(Problem::parameter(name, "must be UTF-8 without the character U+0000"));
        }
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
            None => Problem::parameter(name.unwrap_or_default(), rule.replace("unknown field", "unknown parameter")),
        }
    })
}

/// The slice of a list that the parameters `limit` and `cursor` ask for.
pub fn page(kind: ListKind, limit: Option<WholeNumber>, cursor: Option<&str>) -> Result<PageRequest, Problem> {
    let limit = limit.map(|WholeNumber(limit)| limit);
    PageRequest::parse(kind, limit, cursor).map_err(|broken| DomainError::Invalid(broken).into())
}

/// A number given as a parameter. Its bounds are the domain's.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct WholeNumber(pub i64);

impl TryFrom<String> for WholeNumber {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "must be a whole number")
    }
}

/// An id given as a parameter.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct IdText(pub i64);

impl TryFrom<String> for IdText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Id::parse(&text).map(|Id(id)| Self(id))
    }
}

/// Up to 100 ids separated by commas. An id given twice counts once, at its first place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ids(pub Vec<i64>);

impl TryFrom<String> for Ids {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const RULE: &str = "must be 1 to 100 whole numbers from 1, separated by commas";
        // Counted before anything is parsed or deduplicated, so that a long list costs nothing.
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
        ];
        for (uri, parameter) in cases {
            let response = search(uri).await.expect_err(uri).into_response();
            assert_eq!(response.status().as_u16(), 400, "{uri}");
            let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["errors"][0]["parameter"], parameter, "{uri} answered {answer}");
        }
    }

    #[tokio::test]
    async fn ids_keep_their_order_and_repeated_ones_count_once() {
        let search = search("/?customer=1&ids=3,1,3,2,1").await.unwrap();
        assert_eq!(search.ids, Some(Ids(vec![3, 1, 2])));
    }
}
