//! Conditional requests (RFC 9110, section 13): entity tags, `If-Match` and `If-None-Match`.
//!
//! An entity tag is `"{version}-{digest}"`, or `"{digest}"` for lists. The digest covers the bytes
//! of the body, so the tag is strong. It changes with every byte, also when a deployment changes
//! the format of the JSON.
//!
//! `If-Match` compares only the version. View counts change the bytes but not the version. Every
//! representation of a version shows the current state, so a client that holds any of them loses no
//! update.
//!
//! Dates are ignored. Without `Last-Modified`, the RFC says that `If-Modified-Since` and
//! `If-Unmodified-Since` are ignored.
//!
//! Preconditions are checked after path, body and existence and before the work, so 404 and 422
//! take precedence over 412.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};

use super::{problem::Problem, text::Text};
use crate::domain::ExpectedVersion;

/// The entity tag of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    version: Option<i64>,
    digest: u64,
}

impl EntityTag {
    /// The tag of a representation; lists have no version.
    pub fn new(version: Option<i64>, digest: u64) -> Self {
        Self { version, digest }
    }

    /// Formats the tag between two quote marks.
    fn between(&self, mark: &str) -> Text {
        let mut text = Text::default();
        text.put(mark);
        if let Some(version) = self.version {
            text.number(version).put("-");
        }
        text.hex(self.digest).put(mark);
        text
    }

    /// The tag without its quotes.
    fn opaque(&self) -> Text {
        self.between("")
    }

    /// The tag as the value of `ETag`.
    pub fn header(&self) -> HeaderValue {
        self.between("\"").value()
    }
}

/// How a read continues after its preconditions were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreconditionResult {
    Proceed,
    NotModified,
    Failed,
}

/// The preconditions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Condition>,
    if_none_match: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// `*`, which matches any current representation.
    Any,
    Tags(Vec<Tag>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    opaque: String,
}

impl Tag {
    /// The version in the tag; `None` for a tag that this service did not generate.
    fn version(&self) -> Option<i64> {
        let (version, digest) = self.opaque.split_once('-')?;
        (digest.len() == 16).then(|| version.parse().ok()).flatten()
    }
}

impl Conditions {
    /// Evaluates the preconditions of a GET or HEAD of the representation with this `tag`. The
    /// order is that of section 13.2.2: `If-Match` first.
    pub fn evaluate(&self, tag: &EntityTag) -> PreconditionResult {
        if let Some(Condition::Tags(tags)) = &self.if_match {
            let opaque = tag.opaque();
            let current = |given: &Tag| match tag.version {
                Some(_) => given.version() == tag.version,
                None => given.opaque == opaque.as_str(),
            };
            // Strong comparison: a weak tag never matches.
            if !tags.iter().any(|given| !given.weak && current(given)) {
                return PreconditionResult::Failed;
            }
        }
        match &self.if_none_match {
            Some(Condition::Any) => PreconditionResult::NotModified,
            Some(Condition::Tags(tags)) => {
                let opaque = tag.opaque();
                // Weak comparison: `W/` makes no difference.
                if tags.iter().any(|given| given.opaque == opaque.as_str()) {
                    PreconditionResult::NotModified
                } else {
                    PreconditionResult::Proceed
                }
            }
            None => PreconditionResult::Proceed,
        }
    }

    /// The versions that a write accepts. `If-Match: *` only requires existence, and every write
    /// here requires it anyway.
    pub fn expected(&self) -> ExpectedVersion {
        let one_of = match &self.if_match {
            Some(Condition::Tags(tags)) => Some(tags.iter().filter(|tag| !tag.weak).filter_map(Tag::version).collect()),
            Some(Condition::Any) | None => None,
        };
        let none_of = match &self.if_none_match {
            // Weak comparison: `W/` makes no difference.
            Some(Condition::Tags(tags)) => tags.iter().filter_map(Tag::version).collect(),
            Some(Condition::Any) | None => Vec::new(),
        };
        ExpectedVersion { one_of, none_of, absent: self.if_none_match == Some(Condition::Any) }
    }

    #[cfg(test)]
    pub fn none_of(opaque_in_quotes: &str) -> Self {
        let mut tags = Vec::new();
        parse_tags(opaque_in_quotes, &mut tags).unwrap();
        Self { if_match: None, if_none_match: Some(Condition::Tags(tags)) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let safe = parts.method.is_safe();
        let if_match = condition(&parts.headers, header::IF_MATCH)
            // Ignoring it would perform the write that the client wanted to prevent.
            .map_err(|()| Problem::header("If-Match", RULE))?;
        let if_none_match = match condition(&parts.headers, header::IF_NONE_MATCH) {
            Ok(condition) => condition,
            // Without the precondition, a read only transfers more bytes.
            Err(()) if safe => None,
            Err(()) => return Err(Problem::header("If-None-Match", RULE)),
        };
        Ok(Self { if_match, if_none_match })
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

/// Parses a list of `[W/]"opaque"` separated by commas. Empty members are allowed (RFC 9110,
/// 5.6.1).
fn parse_tags(text: &str, tags: &mut Vec<Tag>) -> Result<(), ()> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(());
        }
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"').and_then(|open| open.split_once('"')).ok_or(())?;
        if opaque.contains([' ', '\t']) {
            return Err(());
        }
        tags.push(Tag { weak, opaque: opaque.to_owned() });
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(());
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Request};

    use super::*;

    const PRODUCT: EntityTag = EntityTag { version: Some(7), digest: 0xab };
    const LIST: EntityTag = EntityTag { version: None, digest: 0xab };

    async fn conditions(method: Method, headers: &[(HeaderName, &str)]) -> Result<Conditions, Problem> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        for (name, value) in headers {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let (mut parts, ()) = request.into_parts();
        Conditions::from_request_parts(&mut parts, &()).await
    }

    #[test]
    fn a_tag_is_version_and_digest_of_fixed_width() {
        assert_eq!(PRODUCT.header(), "\"7-00000000000000ab\"");
        assert_eq!(LIST.header(), "\"00000000000000ab\"");
    }

    #[tokio::test]
    async fn a_read_is_judged_as_the_rfc_says() {
        use PreconditionResult::{Failed, NotModified, Proceed};
        use header::{IF_MATCH, IF_NONE_MATCH};
        let same = "\"7-00000000000000ab\"";
        let same_version = "\"7-00000000000000ff\"";
        let older = "\"6-00000000000000ab\"";
        let cases: &[(&[(HeaderName, &str)], PreconditionResult)] = &[
            (&[], Proceed),
            (&[(IF_NONE_MATCH, same)], NotModified),
            (&[(IF_NONE_MATCH, "W/\"7-00000000000000ab\"")], NotModified),
            (&[(IF_NONE_MATCH, "\"x\", \"7-00000000000000ab\"")], NotModified),
            (&[(IF_NONE_MATCH, "\"x\","), (IF_NONE_MATCH, same)], NotModified),
            (&[(IF_NONE_MATCH, "*")], NotModified),
            (&[(IF_NONE_MATCH, same_version)], Proceed),
            (&[(IF_NONE_MATCH, older)], Proceed),
            (&[(IF_NONE_MATCH, "7-00000000000000ab")], Proceed),
            (&[(IF_NONE_MATCH, "")], Proceed),
            (&[(IF_MATCH, same)], Proceed),
            (&[(IF_MATCH, "*")], Proceed),
            (&[(IF_MATCH, same_version)], Proceed),
            (&[(IF_MATCH, older)], Failed),
            (&[(IF_MATCH, "W/\"7-00000000000000ab\"")], Failed),
            (&[(IF_MATCH, older), (IF_NONE_MATCH, same)], Failed),
            (&[(IF_MATCH, same), (IF_NONE_MATCH, same)], NotModified),
            (&[(IF_MATCH, same), (IF_NONE_MATCH, older)], Proceed),
        ];
        for (headers, expected) in cases {
            let conditions = conditions(Method::GET, headers).await.unwrap();
            assert_eq!(conditions.evaluate(&PRODUCT), *expected, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_list_is_judged_by_all_of_its_tag() {
        let conditions = conditions(Method::GET, &[(header::IF_NONE_MATCH, "\"00000000000000ab\"")]).await.unwrap();
        assert_eq!(conditions.evaluate(&LIST), PreconditionResult::NotModified);
        assert_eq!(conditions.evaluate(&PRODUCT), PreconditionResult::Proceed);
    }

    #[tokio::test]
    async fn a_write_expects_the_versions_of_strong_tags() {
        let cases = [
            ("*", None),
            ("\"7-00000000000000ab\"", Some(vec![7])),
            ("\"7-00000000000000ab\", \"8-00000000000000ab\"", Some(vec![7, 8])),
            ("W/\"7-00000000000000ab\"", Some(vec![])),
            ("\"somebody else's\"", None),
            ("\"foreign\"", Some(vec![])),
            ("\"7\"", Some(vec![])),
        ];
        for (value, expected) in cases {
            match conditions(Method::PATCH, &[(header::IF_MATCH, value)]).await {
                Ok(conditions) => assert_eq!(conditions.expected().one_of, expected, "{value}"),
                Err(problem) => assert_eq!((problem.name(), value), ("invalid-parameter", "\"somebody else's\"")),
            }
        }
    }

    #[tokio::test]
    async fn a_write_is_refused_when_its_conditions_cannot_be_read() {
        for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
            for value in ["7", "\"7", "\"7\" \"8\"", "w/\"7\"", "\"7\"; \"8\""] {
                assert!(conditions(Method::PATCH, &[(name.clone(), value)]).await.is_err(), "{name}: {value}");
            }
        }
    }

    #[tokio::test]
    async fn if_none_match_stops_a_write_on_the_version_it_names() {
        for (value, refused) in [("*", true), ("W/\"7-00000000000000ff\"", true), ("\"6-00000000000000ab\"", false)] {
            let conditions = conditions(Method::DELETE, &[(header::IF_NONE_MATCH, value)]).await.unwrap();
            assert_eq!(conditions.expected().check(7).is_err(), refused, "{value}");
        }
    }
}
