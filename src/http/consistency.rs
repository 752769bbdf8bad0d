//! Consistency that a client may request beyond the service's guarantees. With `Consistency-Token`,
//! the answer is never older than an answer that the client has seen on any instance. With
//! `Prefer: fleet-consistent`, a write is acknowledged only when no instance serves older data any
//! more. The cache implements the protocol of both.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};

use super::{problem::Problem, text::Text};
use aside_cache::{Cache, ConsistencyToken};

pub const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const FLEET_CONSISTENT: &str = "fleet-consistent";

/// Parses the token of a request.
pub fn token(headers: &HeaderMap) -> Result<Option<ConsistencyToken>, Problem> {
    let mut values = headers.get_all(CONSISTENCY_TOKEN).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|_| values.next().is_none());
    token.map(Some).ok_or_else(malformed_token)
}

/// The problem for a token that no answer of this service can have contained.
pub fn malformed_token() -> Problem {
    Problem::header("Consistency-Token", "must be one token, as an earlier answer gave it")
}

/// The header of an answer that was read at `token`.
pub fn header_of(token: &ConsistencyToken) -> HeaderValue {
    Text::default().put(token.epoch()).put("-").number(token.moment().0).value()
}

/// The consistency that a request requires of its answer.
pub enum ConsistencyRequest {
    /// A read, with the token that the request sent. The answer's token must not be older. A token
    /// ahead of this instance is not repeated, because no instance has issued it.
    Read(Option<ConsistencyToken>),
    /// A write, whose answer carries a token. With `fleet`, the answer waits until no instance
    /// serves older data.
    Write { fleet: bool },
}

impl ConsistencyRequest {
    /// Reads the requirements of a request.
    pub fn from_request(request: &Request) -> Self {
        match request.method().is_safe() {
            true => Self::Read(token(request.headers()).ok().flatten()),
            false => Self::Write { fleet: prefers_fleet(request.headers()) },
        }
    }

    /// Applies the requirements to the answer.
    pub async fn apply(self, cache: &Cache, mut response: Response) -> Response {
        let token = match self {
            Self::Read(None) => return response,
            Self::Read(Some(brought)) => {
                let given = token(response.headers()).ok().flatten();
                given.and_then(|given| given.overtaken_by(brought)).filter(|token| cache.has_reached(token))
            }
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
            response.headers_mut().insert(CONSISTENCY_TOKEN, header_of(&token));
        }
        response
    }
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
        assert!(matches!(token(&headers(CONSISTENCY_TOKEN, &[])), Ok(None)));
        assert!(matches!(token(&headers(CONSISTENCY_TOKEN, &["0a1b-17"])), Ok(Some(_))));
        for wrong in [&["x"][..], &[""], &["a-1", "a-1"], &["a-1, a-2"], &["a--1"]] {
            assert!(token(&headers(CONSISTENCY_TOKEN, wrong)).is_err(), "{wrong:?}");
        }
    }
}
