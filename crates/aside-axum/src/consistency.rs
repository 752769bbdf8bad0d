//! Consistency that a client may request beyond the service's guarantees. With `Consistency-Token`,
//! the answer is never older than an answer that the client has seen on any instance. With
//! `Prefer: fleet-consistent`, a write is acknowledged only when no instance serves older data any
//! more. The cache implements the protocol of both.

use aside_cache::{Cache, ConsistencyToken};
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    middleware::Next,
    response::Response,
};

use super::{read_request::CacheAccess, refusal::Refusal, text::Text};

/// The name of the header with a consistency token, in both directions.
pub const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const FLEET_CONSISTENT: &str = "fleet-consistent";

/// The token that a request sent, if it sent one. [`ReadRequest`](super::ReadRequest) follows it
/// already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientToken(pub Option<ConsistencyToken>);

impl ClientToken {
    pub(crate) const MALFORMED: Refusal = Refusal::MalformedHeader {
        header: "Consistency-Token",
        rule: "must be one token, as an earlier answer gave it",
    };

    /// Reads the token.
    ///
    /// # Errors
    /// Returns [`Refusal::MalformedHeader`] if there are several, or if it is not a token.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(CONSISTENCY_TOKEN).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let token = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|_| values.next().is_none());
        token.map(|token| Self(Some(token))).ok_or(Self::MALFORMED)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientToken {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Self::parse(&parts.headers)
    }
}

/// The value of `Consistency-Token` for an answer that was read at `token`.
pub fn token_header(token: &ConsistencyToken) -> HeaderValue {
    Text::default().put(token.epoch()).put("-").number(token.moment().0).value()
}

/// Gives each answer of a router the consistency that its request asked for. It is for
/// `axum::middleware::from_fn_with_state` with a [`CacheAccess`] as the state. A service without
/// layers calls [`ConsistencyRequest`] itself.
pub async fn consistency(State(access): State<CacheAccess>, request: Request, next: Next) -> Response {
    let consistency = ConsistencyRequest::from_request(&request);
    consistency.apply(access.cache(), next.run(request).await).await
}

/// The consistency that a request requires of its answer.
#[derive(Clone, Debug)]
pub enum ConsistencyRequest {
    /// A read, with the token that the request sent. The answer's token must not be older. A token
    /// ahead of this instance is not repeated, because no instance has issued it.
    Read(Option<ConsistencyToken>),
    /// A write, whose answer carries a token. With `fleet`, the answer waits until no instance
    /// serves older data.
    Write {
        /// Whether the request prefers `fleet-consistent`.
        fleet: bool,
    },
}

impl ConsistencyRequest {
    /// Reads the requirements of a request.
    pub fn from_request(request: &Request) -> Self {
        match request.method().is_safe() {
            true => Self::Read(token_of(request.headers())),
            false => Self::Write { fleet: prefers_fleet(request.headers()) },
        }
    }

    /// Applies the requirements to the answer.
    pub async fn apply(self, cache: &Cache, mut response: Response) -> Response {
        let token = match self {
            Self::Read(None) => return response,
            Self::Read(Some(brought)) => token_of(response.headers())
                .and_then(|given| given.overtaken_by(brought))
                .filter(|token| cache.has_reached(token)),
            Self::Write { .. } if !response.status().is_success() => None,
            Self::Write { fleet } => {
                if fleet {
                    cache.await_fleet().await;
                    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(FLEET_CONSISTENT));
                }
                cache.token_now()
            }
        };
        if let Some(token) = token {
            response.headers_mut().insert(CONSISTENCY_TOKEN, token_header(&token));
        }
        response
    }
}

/// The token of a message, if it has one that can be read.
fn token_of(headers: &HeaderMap) -> Option<ConsistencyToken> {
    ClientToken::parse(headers).ok().and_then(|ClientToken(token)| token)
}

/// Returns whether the request prefers `fleet-consistent`. Preferences are a list of tokens with
/// optional values and parameters (RFC 7240), and unknown ones are ignored.
fn prefers_fleet(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut names = lists.flat_map(|list| list.split(',')).filter_map(|one| one.split([';', '=']).next());
    names.any(|name| name.trim().eq_ignore_ascii_case(FLEET_CONSISTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_preference_is_found_among_others() {
        for (values, expected) in [
            (&["fleet-consistent"][..], true),
            (&["respond-async, Fleet-Consistent; wait=1"], true),
            (&["wait=10", "fleet-consistent"], true),
            (&["not-fleet-consistent"], false),
            (&["x=\"fleet-consistent\""], false),
            (&[], false),
        ] {
            assert_eq!(prefers_fleet(&headers(PREFER, values)), expected, "{values:?}");
        }
    }

    #[test]
    fn one_token_is_taken_and_anything_else_refused() {
        let parse = |values| ClientToken::parse(&headers(CONSISTENCY_TOKEN, values));
        assert!(matches!(parse(&[]), Ok(ClientToken(None))));
        assert!(matches!(parse(&["0a1b-17"]), Ok(ClientToken(Some(_)))));
        for wrong in [&["x"] as &[_], &[""], &["a-1", "a-1"], &["a-1, a-2"], &["a--1"]] {
            assert_eq!(parse(wrong), Err(ClientToken::MALFORMED), "{wrong:?}");
        }
    }
}
