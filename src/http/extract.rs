//! The extractors of handlers for the id in the path and for the body. `identity.rs` extracts the
//! caller.
//!
//! Every input becomes a value or a problem that names the field. No request reaches the domain
//! with a NUL character, which Postgres rejects, or with unknown fields.

use axum::{
    body::{Bytes, HttpBody},
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::{
    WebState, body,
    problem::{Kind, Problem},
};
use crate::domain::MAX_ID;

/// The id of a product or an order in the path, in its one canonical form. `007` and `+7` are
/// refused, so caches between the service and the client see one URL per resource.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub i64);

impl Id {
    const RULE: &'static str = "must be a whole number from 1 to 9007199254740991, without sign or leading zeros";

    /// Parses an id as it appears in the path and in the list of `ids`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let canonical = matches!(text.as_bytes(), [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
        let id = canonical.then(|| text.parse().ok()).flatten();
        id.filter(|id| *id <= MAX_ID).map(Self).ok_or(Self::RULE)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // The last segment as it was sent. A percent-encoded digit is not in canonical form.
        let path = parts.uri.path();
        let text = &path[path.bytes().rposition(|byte| byte == b'/').map_or(0, |slash| slash + 1)..];
        Self::parse(text).map_err(|rule| Problem::parameter("id", rule))
    }
}

/// A JSON body of a POST.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + ToSchema> FromRequest<WebState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Problem> {
        if !has_media_type(request.headers(), &["application/json"]) {
            return Err(
                unsupported("Send the body as application/json.").with_header(header::ACCEPT, "application/json")
            );
        }
        parse(request, state).await.map(Self)
    }
}

/// The media types that a PATCH accepts.
pub const PATCH_MEDIA_TYPES: &str = "application/merge-patch+json, application/json";

/// A JSON body of a PATCH: a merge patch (RFC 7396), also accepted as plain JSON.
#[derive(Debug)]
pub struct MergePatch<T>(pub T);

impl<T: DeserializeOwned + ToSchema> FromRequest<WebState> for MergePatch<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Problem> {
        if !has_media_type(request.headers(), &["application/merge-patch+json", "application/json"]) {
            return Err(unsupported("Send the patch as application/merge-patch+json or application/json.")
                .with_header(header::ACCEPT, PATCH_MEDIA_TYPES)
                .with_header(super::ACCEPT_PATCH, PATCH_MEDIA_TYPES));
        }
        parse(request, state).await.map(Self)
    }
}

fn unsupported(detail: &'static str) -> Problem {
    Problem::new(&Kind::UNSUPPORTED_MEDIA_TYPE, detail)
}

fn has_media_type(headers: &HeaderMap, accepted: &[&str]) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    // Parameters such as `charset` change nothing, because JSON is UTF-8 by definition.
    let essence = value.split(';').next().unwrap_or_default().trim();
    accepted.iter().any(|accepted| essence.eq_ignore_ascii_case(accepted))
}

/// Parses the body as the document describes it under the name of its type.
async fn parse<T: DeserializeOwned + ToSchema>(request: Request, state: &WebState) -> Result<T, Problem> {
    let shape =
        state.shapes.get(&T::name()).ok_or_else(|| Problem::internal("the document lacks the type of a body"))?;
    body::parse(&read(request, state).await?, shape)
}

async fn read(mut request: Request, state: &WebState) -> Result<Bytes, Problem> {
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(
            unsupported("Send the body without a content coding.").with_header(header::ACCEPT_ENCODING, "identity")
        );
    }
    let too_large =
        || Problem::new(&Kind::PAYLOAD_TOO_LARGE, format!("The body may have at most {} bytes.", state.body_limit));
    // This check comes before anything is read. Reading would make a client that waits for
    // `100 Continue` send the whole body (RFC 9110, section 10.1.1).
    if request.body().size_hint().lower() > state.body_limit as u64 {
        return Err(too_large());
    }
    // The body gets half of the time for the answer. A slow client is thus told that it was slow,
    // and not that the service was.
    DefaultBodyLimit::max(state.body_limit).apply(&mut request);
    let arrival = tokio::time::timeout(state.body_timeout, Bytes::from_request(request, &()));
    let arrived = arrival.await.map_err(|_| {
        Problem::new(&Kind::REQUEST_TIMEOUT, "The body did not arrive in time.")
            .with_header(header::CONNECTION, "close")
    })?;
    arrived.map_err(|rejection| match rejection.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::new(&Kind::MALFORMED_BODY, "The body ended too early."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling_and_can_be_read_by_javascript() {
        for (text, expected) in [("1", Some(1)), ("1082185", Some(1_082_185)), ("9007199254740991", Some(MAX_ID))] {
            assert_eq!(Id::parse(text).ok().map(|id| id.0), expected, "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "007",
            "1.0",
            "1e3",
            "abc",
            "9007199254740992",
            "9223372036854775808",
            " 1",
            "1 ",
            "١",
            "1\0",
        ] {
            assert!(Id::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn media_types_are_compared_without_case_and_parameters() {
        let cases = [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/jsonp", false),
            ("text/json", false),
            ("", false),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(has_media_type(&headers, &["application/json"]), expected, "{value}");
        }
        assert!(!has_media_type(&HeaderMap::new(), &["application/json"]));
    }
}
