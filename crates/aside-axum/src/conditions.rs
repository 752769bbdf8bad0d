//! Conditional requests (RFC 9110, section 13): `If-Match` and `If-None-Match`.
//!
//! `If-Match` compares only the version. A column that is not versioned, such as a view count,
//! changes the bytes but not the version. Every representation of a version shows the current
//! state, so a client that holds any of them loses no update.
//!
//! Conditions by date are ignored. Every answer has an entity tag, and a client that has one must
//! send it (RFC 9110, section 13.1.3).
//!
//! Preconditions are checked after path, body and existence and before the work, so 404 and 422
//! take precedence over 412.

use aside_cache::ExpectedVersion;
use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, Method, StatusCode, header, request::Parts},
    response::Response,
};

use super::{
    entity_tag::{ClientTag, EntityTag, parse_tags},
    refusal::Refusal,
};

/// Whether the client has the current representation already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// The client does not have it: the response is a 200 with the body.
    Modified,
    /// The client has it: the response is a 304 without a body.
    NotModified,
}

impl Validation {
    /// The response with these headers. Headers that describe the body belong only to a 200.
    pub fn respond(self, headers: HeaderMap, body: impl Into<Body>) -> Response {
        let (status, body) = match self {
            Self::Modified => (StatusCode::OK, body.into()),
            Self::NotModified => (StatusCode::NOT_MODIFIED, Body::empty()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// The preconditions of a request.
///
/// As an extractor it refuses a request whose `If-Match` can't be read. Ignoring it would perform
/// the write that the client wanted to prevent. An `If-None-Match` that can't be read is refused
/// only for a write. Without it, a read only transfers more bytes.
///
/// ```
/// use aside_axum::{Conditions, EntityTag, Validation};
/// use aside_cache::ExpectedVersion;
/// use axum::http::{HeaderMap, HeaderValue, Method, header};
///
/// let current = EntityTag::new(Some(7), 0xab);
/// let value = HeaderValue::from_static("\"7-00000000000000ab\"");
/// let read = HeaderMap::from_iter([(header::IF_NONE_MATCH, value.clone())]);
/// let conditions = Conditions::parse(&Method::GET, &read)?;
/// assert_eq!(conditions.evaluate(&current)?, Validation::NotModified);
///
/// let write = HeaderMap::from_iter([(header::IF_MATCH, value)]);
/// let conditions = Conditions::parse(&Method::PATCH, &write)?;
/// assert_eq!(conditions.expected(), ExpectedVersion::one_of([7]));
/// # Ok::<_, aside_axum::Refusal>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Condition>,
    if_none_match: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// `*`, which matches any current representation.
    Any,
    Tags(Vec<ClientTag>),
}

impl Conditions {
    /// Reads the preconditions of a request with this method.
    ///
    /// # Errors
    /// Returns [`Refusal::MalformedHeader`] for preconditions that must not be ignored.
    pub fn parse(method: &Method, headers: &HeaderMap) -> Result<Self, Refusal> {
        let malformed = |header| Refusal::MalformedHeader { header, rule: RULE };
        let if_match = condition(headers, header::IF_MATCH).map_err(|()| malformed("If-Match"))?;
        let if_none_match = match condition(headers, header::IF_NONE_MATCH) {
            Err(()) if !method.is_safe() => return Err(malformed("If-None-Match")),
            condition => condition.unwrap_or(None),
        };
        Ok(Self { if_match, if_none_match })
    }

    /// Evaluates the preconditions of a GET or HEAD of the representation with this `tag`. The
    /// order is that of section 13.2.2: `If-Match` first.
    ///
    /// # Errors
    /// Returns [`Refusal::PreconditionFailed`] if `If-Match` does not name the representation.
    pub fn evaluate(&self, tag: &EntityTag) -> Result<Validation, Refusal> {
        if let Some(Condition::Tags(tags)) = &self.if_match
            && !tag.is_current_in(tags)
        {
            return Err(Refusal::PreconditionFailed);
        }
        let has_current = match &self.if_none_match {
            None => false,
            Some(Condition::Any) => true,
            Some(Condition::Tags(tags)) => tag.is_named_in(tags),
        };
        Ok(if has_current { Validation::NotModified } else { Validation::Modified })
    }

    /// The versions that a write accepts. `If-Match: *` only requires existence, and every write
    /// here requires it anyway.
    pub fn expected(&self) -> ExpectedVersion {
        let one_of = match &self.if_match {
            Some(Condition::Tags(tags)) => {
                Some(tags.iter().filter(|tag| !tag.weak).filter_map(ClientTag::version).collect())
            }
            Some(Condition::Any) | None => None,
        };
        let none_of = match &self.if_none_match {
            // Weak comparison: `W/` makes no difference.
            Some(Condition::Tags(tags)) => tags.iter().filter_map(ClientTag::version).collect(),
            Some(Condition::Any) | None => Vec::new(),
        };
        ExpectedVersion { one_of, none_of, absent: self.if_none_match == Some(Condition::Any) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Self::parse(&parts.method, &parts.headers)
    }
}

const RULE: &str = "must be * or a list of entity tags in quotes";

fn condition(headers: &HeaderMap, name: HeaderName) -> Result<Option<Condition>, ()> {
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    let mut tags = Vec::new();
    for value in values {
        let text = value.to_str().map_err(|_| ())?.trim();
        if text == "*" {
            return Ok(Some(Condition::Any));
        }
        parse_tags(text, &mut tags)?;
    }
    Ok(Some(Condition::Tags(tags)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: EntityTag = EntityTag::new(Some(7), 0xab);
    const LIST: EntityTag = EntityTag::new(None, 0xab);

    fn conditions(method: Method, headers: &[(HeaderName, &str)]) -> Result<Conditions, Refusal> {
        let mut given = HeaderMap::new();
        for (name, value) in headers {
            given.append(name, value.parse().unwrap());
        }
        Conditions::parse(&method, &given)
    }

    #[test]
    fn a_read_is_answered_as_the_rfc_requires() {
        const PROCEED: Result<Validation, Refusal> = Ok(Validation::Modified);
        const NOT_MODIFIED: Result<Validation, Refusal> = Ok(Validation::NotModified);
        const FAILED: Result<Validation, Refusal> = Err(Refusal::PreconditionFailed);
        use header::{IF_MATCH, IF_NONE_MATCH};
        let same = "\"7-00000000000000ab\"";
        let same_version = "\"7-00000000000000ff\"";
        let older = "\"6-00000000000000ab\"";
        type Case<'a> = (&'a [(HeaderName, &'a str)], Result<Validation, Refusal>);
        let cases: &[Case] = &[
            (&[], PROCEED),
            (&[(IF_NONE_MATCH, same)], NOT_MODIFIED),
            (&[(IF_NONE_MATCH, "W/\"7-00000000000000ab\"")], NOT_MODIFIED),
            (&[(IF_NONE_MATCH, "\"x\", \"7-00000000000000ab\"")], NOT_MODIFIED),
            (&[(IF_NONE_MATCH, "\"x\","), (IF_NONE_MATCH, same)], NOT_MODIFIED),
            (&[(IF_NONE_MATCH, "*")], NOT_MODIFIED),
            (&[(IF_NONE_MATCH, same_version)], PROCEED),
            (&[(IF_NONE_MATCH, older)], PROCEED),
            (&[(IF_NONE_MATCH, "7-00000000000000ab")], PROCEED),
            (&[(IF_NONE_MATCH, "")], PROCEED),
            (&[(IF_MATCH, same)], PROCEED),
            (&[(IF_MATCH, "*")], PROCEED),
            (&[(IF_MATCH, same_version)], PROCEED),
            (&[(IF_MATCH, older)], FAILED),
            (&[(IF_MATCH, "W/\"7-00000000000000ab\"")], FAILED),
            (&[(IF_MATCH, older), (IF_NONE_MATCH, same)], FAILED),
            (&[(IF_MATCH, same), (IF_NONE_MATCH, same)], NOT_MODIFIED),
            (&[(IF_MATCH, same), (IF_NONE_MATCH, older)], PROCEED),
        ];
        for (headers, expected) in cases {
            let conditions = conditions(Method::GET, headers).unwrap();
            assert_eq!(conditions.evaluate(&PRODUCT), *expected, "{headers:?}");
        }
    }

    #[test]
    fn a_list_is_compared_by_all_of_its_tag() {
        let conditions = conditions(Method::GET, &[(header::IF_NONE_MATCH, "\"00000000000000ab\"")]).unwrap();
        assert_eq!(conditions.evaluate(&LIST), Ok(Validation::NotModified));
        assert_eq!(conditions.evaluate(&PRODUCT), Ok(Validation::Modified));
    }

    #[test]
    fn a_write_expects_the_versions_of_strong_tags() {
        let cases = [
            ("*", None),
            ("\"7-00000000000000ab\"", Some(vec![7])),
            ("\"7-00000000000000ab\", \"8-00000000000000ab\"", Some(vec![7, 8])),
            ("W/\"7-00000000000000ab\"", Some(vec![])),
            ("\"somebody else's\"", None),
            ("\"foreign\"", Some(vec![])),
            ("\"7\"", Some(vec![7])),
        ];
        for (value, expected) in cases {
            match conditions(Method::PATCH, &[(header::IF_MATCH, value)]) {
                Ok(conditions) => assert_eq!(conditions.expected().one_of, expected, "{value}"),
                Err(refusal) => {
                    let expected = Refusal::MalformedHeader { header: "If-Match", rule: RULE };
                    assert_eq!((refusal, value), (expected, "\"somebody else's\""));
                }
            }
        }
    }

    #[test]
    fn a_write_is_refused_when_its_conditions_cannot_be_read() {
        for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
            for value in ["7", "\"7", "\"7\" \"8\"", "w/\"7\"", "\"7\"; \"8\""] {
                assert!(conditions(Method::PATCH, &[(name.clone(), value)]).is_err(), "{name}: {value}");
            }
        }
    }

    #[test]
    fn if_none_match_stops_a_write_on_the_version_it_names() {
        for (value, refused) in [("*", true), ("W/\"7-00000000000000ff\"", true), ("\"6-00000000000000ab\"", false)] {
            let conditions = conditions(Method::DELETE, &[(header::IF_NONE_MATCH, value)]).unwrap();
            assert_eq!(conditions.expected().check(7).is_err(), refused, "{value}");
        }
    }
}
