//! Builds a response from a read of the cache: the bytes as the tier stores them, and the headers
//! about their freshness and origin.
//!
//! An answer from L1 is neither decoded nor encoded. The entity tag is computed from the same entry
//! as the body, and a 304 has the headers of the 200. `Age` counts from the last time at which the
//! answer was known to be current (RFC 9111, section 5.1). The last poll of the ledger proved that
//! a hit is current. Its `Age` therefore starts at that poll and not at the read of Postgres.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    conditional::{Conditions, EntityTag, PreconditionResult},
    consistency::{self, CONSISTENCY_TOKEN},
    observe::{self, REQUEST_ID},
    problem::{Kind, Problem},
    text::Text,
};
use crate::cdn::{SurrogateKeys, Tagged};
use aside_cache::{Cacheable, Cached, ConsistencyToken, Outcome, TagVersion};

/// The headers that tell caches and browsers how to handle one kind of answer. The list begins with
/// the headers whose value differs in every answer, in the order of [`Representation::respond`].
#[derive(Debug)]
pub struct CacheControl(LazyLock<HeaderMap>);

/// Catalogue data. It is public, but only for a short time, because an answer can't be taken back
/// from a browser. Five seconds absorb the repeated requests of a page. An outdated price does no
/// harm, because orders take their prices from the database. The two windows are defined in RFC
/// 5861.
static CATALOGUE: CacheControl = CacheControl(LazyLock::new(|| {
    prepared([(header::CACHE_CONTROL, "public, max-age=5, stale-while-revalidate=10, stale-if-error=60")])
}));

/// One customer's data. Only the user's own browser may store it, and it must revalidate before
/// every reuse (304 when nothing changed).
pub static PERSONAL: CacheControl = CacheControl(LazyLock::new(|| {
    prepared([(header::CACHE_CONTROL, "private, no-cache"), (header::VARY, "authorization")])
}));

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NOTHING: HeaderValue = HeaderValue::from_static("");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The headers whose value differs in every answer. A header without a value is left out.
const OWN: [HeaderName; 6] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ETAG, header::AGE, CACHE_STATUS, CONSISTENCY_TOKEN];

/// Prepares all headers of a kind of answer, including the one that `observe` fills in, so that no
/// header has to be added later.
fn prepared<const N: usize>(constant: [(HeaderName, &'static str); N]) -> HeaderMap {
    let to_come = |name| (name, NOTHING);
    let constant = constant.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let all = OWN.map(to_come).into_iter().chain(constant);
    all.chain([to_come(REQUEST_ID), observe::NO_SNIFFING]).collect()
}

/// A representation that is ready to be sent, with its freshness.
#[derive(Clone, Debug)]
pub struct Representation {
    pub body: Bytes,
    pub tag: EntityTag,
    /// The time since the answer was last known to be current. It is `None` when the database was
    /// read for this request, because an `Age` header would deny that.
    pub age: Option<Duration>,
    /// The time since the database was read.
    pub since_read: Duration,
    /// The remaining lifetime in L1. It is negative when the lifetime has ended.
    pub ttl_ms: i64,
    pub outcome: Outcome,
    /// Whether L1 may store it.
    pub stored: bool,
    pub token: Option<ConsistencyToken>,
    /// The type's name, the tags on which the answer depends, and the age from which it may not be
    /// served.
    pub pattern: &'static str,
    pub tag_versions: Arc<[TagVersion]>,
    pub max_age: Duration,
}

impl Representation {
    /// Builds the representation of a read. `version` returns the version of a single resource, and
    /// `None` for a list.
    pub fn of<T: Cacheable>(read: &Cached<T>, version: impl FnOnce(&T) -> Option<i64>) -> Result<Self, Problem> {
        let entry = &read.entry;
        let Some(value) = &entry.value else {
            return Err(Problem::new(&Kind::NOT_FOUND, "There is no such thing."));
        };
        Ok(Self {
            body: entry.body.clone(),
            tag: EntityTag::new(version(value), entry.digest),
            age: read.age,
            since_read: read.since_read,
            ttl_ms: read.ttl_ms,
            outcome: read.outcome,
            stored: read.stored,
            token: read.token.clone(),
            pattern: T::POLICY.name,
            tag_versions: Arc::clone(&entry.tag_versions),
            max_age: T::POLICY.max_age,
        })
    }

    /// The response to a GET or HEAD of the catalogue. It has surrogate keys if a shared cache is
    /// in front of the service. A stale answer has none, because no cache may store it.
    pub fn into_public_response(
        self,
        conditions: &Conditions,
        cdn: Option<&SurrogateKeys>,
        l2: bool,
    ) -> Result<Response, Problem> {
        let mark = |surrogate_keys: &SurrogateKeys| {
            surrogate_keys.headers(&Tagged {
                pattern: self.pattern,
                tag_versions: &self.tag_versions,
                age: self.age.unwrap_or_default(),
                left: self.max_age.saturating_sub(self.since_read),
            })
        };
        let marks = cdn.filter(|_| self.outcome != Outcome::Stale).map(mark);
        let mut response = self.respond(conditions, &CATALOGUE, l2)?;
        response.headers_mut().extend(marks.into_iter().flatten());
        Ok(response)
    }

    /// The response to a GET or HEAD: 200, 304, or 412. `l2` tells whether the service has a second
    /// tier.
    pub fn respond(self, conditions: &Conditions, cache_control: &CacheControl, l2: bool) -> Result<Response, Problem> {
        let (status, length) = match conditions.evaluate(&self.tag) {
            PreconditionResult::Proceed => (StatusCode::OK, Some(self.body.len())),
            PreconditionResult::NotModified => (StatusCode::NOT_MODIFIED, None),
            PreconditionResult::Failed => {
                return Err(Problem::new(&Kind::VERSION_CONFLICT, "If-Match names no current representation."));
            }
        };
        // Copying the prepared headers and filling in the values costs half as much as building
        // them.
        let mut headers = HeaderMap::clone(&cache_control.0);
        let own = [
            length.map(|_| JSON),
            length.map(HeaderValue::from),
            Some(self.tag.header()),
            self.age.map(|age| age.as_secs().into()),
            cache_status(&self, l2),
            self.token.as_ref().map(consistency::header_of),
        ];
        let left_out = own.each_ref().map(Option::is_none);
        for ((name, (place, value)), own) in OWN.iter().zip(headers.iter_mut()).zip(own) {
            debug_assert_eq!(place, name);
            *value = own.unwrap_or(NOTHING);
        }
        for (name, _) in OWN.iter().zip(left_out).filter(|(_, left_out)| *left_out) {
            headers.remove(name);
        }
        if self.outcome == Outcome::Stale {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        let mut response = Response::new(if length.is_some() { Body::from(self.body) } else { Body::empty() });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        observe::note(&mut response, self.outcome);
        Ok(response)
    }
}

/// The response to a write that returns the new state. It is a representation of the resource at
/// `path`, so the client can use its entity tag for the next `If-Match`.
pub fn written(status: StatusCode, path: &str, version: i64, body: Bytes) -> Result<Response, Problem> {
    let path = HeaderValue::try_from(path).map_err(|_| Problem::internal("a path is not a header value"))?;
    let tag = EntityTag::new(Some(version), aside_cache::digest(&body)).header();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::CREATED {
        headers.insert(header::LOCATION, path.clone());
    }
    headers.insert(header::CONTENT_LOCATION, path);
    Ok(response)
}

/// Encodes a value that was just written as JSON.
pub fn encode(value: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|_| Problem::internal("a value has no JSON form"))
}

/// Builds `Cache-Status` (RFC 9211): the names and results of the tiers, with the tier nearest to
/// the database first. Keys are never included. The RFC describes HTTP caches, so the mapping of
/// the outcomes is this service's own. So is the parameter `aside-read-age`, the seconds since the
/// database was read.
fn cache_status(answer: &Representation, l2: bool) -> Option<HeaderValue> {
    let ttl = answer.ttl_ms.div_euclid(1000);
    let read_age = answer.since_read.as_secs() as i64;
    let stored = if answer.stored { "; stored" } else { "" };
    let mut text = Text::default();
    // The result of L2, which is left out when there is none, and the result of L1, before and
    // after `stored`.
    let (second, first, detail) = match answer.outcome {
        Outcome::L1Hit => {
            text.put("aside-l1; hit; ttl=").number(ttl).put("; aside-read-age=").number(read_age);
            return Some(text.value());
        }
        Outcome::L2Hit => {
            text.put("aside-l2; hit; ttl=").number(ttl).put("; aside-read-age=").number(read_age);
            return Some(text.put(", aside-l1; fwd=miss").put(stored).value());
        }
        // The negative number shows how long ago the lifetime ended, as the RFC flags stale
        // answers. The header does not say which tier held it.
        Outcome::Stale => {
            text.put("aside; hit; ttl=").number(ttl.min(-1)).put("; detail=database-away; aside-read-age=");
            return Some(text.number(read_age).value());
        }
        Outcome::Collapsed => return Some(HeaderValue::from_static("aside-l1; fwd=miss; collapsed")),
        Outcome::Bypass => return Some(HeaderValue::from_static("aside-l1; fwd=request")),
        // An entry was found and rejected. The header does not say which tier held it.
        Outcome::LoadedExpired | Outcome::LoadedInvalidated => {
            let detail = if answer.outcome == Outcome::LoadedInvalidated { "invalidated" } else { "expired" };
            let name = if l2 { "aside; fwd=stale" } else { "aside-l1; fwd=stale" };
            return Some(text.put(name).put(stored).put("; detail=").put(detail).value());
        }
        // At this time it is not known whether L2 will be filled, so there is no `stored`.
        Outcome::LoadedCold => ("fwd=miss", "fwd=miss", ""),
        Outcome::LoadedNotCurrent => ("fwd=bypass; detail=not-current", "fwd=bypass", "; detail=not-current"),
        Outcome::LoadedUnreadable => ("fwd=miss; detail=unreadable", "fwd=miss", ""),
        Outcome::L2Error => ("fwd=bypass; detail=error", "fwd=miss", ""),
        Outcome::L2Skipped => ("fwd=bypass; detail=breaker-open", "fwd=miss", ""),
        // An error that this service generates itself says nothing about a cache (RFC 9211, section
        // 2).
        Outcome::NotCached | Outcome::Failed => return None,
    };
    if l2 {
        text.put("aside-l2; ").put(second).put(", ");
    }
    Some(text.put("aside-l1; ").put(first).put(stored).put(detail).value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::products::Product;

    fn answer(outcome: Outcome) -> Representation {
        Representation {
            body: Bytes::from_static(b"{}"),
            tag: EntityTag::new(Some(3), 0xab),
            age: (!outcome.is_load()).then_some(Duration::from_millis(1_999)),
            since_read: Duration::from_millis(631_900),
            ttl_ms: 12_900,
            outcome,
            stored: true,
            token: "0a1b2c-17".parse().ok(),
            tag_versions: Arc::new([]),
            pattern: Product::POLICY.name,
            max_age: Product::POLICY.max_age,
        }
    }

    fn text(answer: &Representation, l2: bool) -> Option<String> {
        cache_status(answer, l2).map(|status| status.to_str().unwrap().to_owned())
    }

    #[test]
    fn every_outcome_has_its_cache_status() {
        let hit = Some("aside-l1; hit; ttl=12; aside-read-age=631");
        let cases = [
            (Outcome::L1Hit, hit, hit),
            (Outcome::L2Hit, Some("aside-l2; hit; ttl=12; aside-read-age=631, aside-l1; fwd=miss; stored"), None),
            (
                Outcome::LoadedCold,
                Some("aside-l2; fwd=miss, aside-l1; fwd=miss; stored"),
                Some("aside-l1; fwd=miss; stored"),
            ),
            (
                Outcome::LoadedExpired,
                Some("aside; fwd=stale; stored; detail=expired"),
                Some("aside-l1; fwd=stale; stored; detail=expired"),
            ),
            (Outcome::LoadedInvalidated, Some("aside; fwd=stale; stored; detail=invalidated"), None),
            (Outcome::L2Error, Some("aside-l2; fwd=bypass; detail=error, aside-l1; fwd=miss; stored"), None),
            (Outcome::L2Skipped, Some("aside-l2; fwd=bypass; detail=breaker-open, aside-l1; fwd=miss; stored"), None),
            (Outcome::Collapsed, Some("aside-l1; fwd=miss; collapsed"), Some("aside-l1; fwd=miss; collapsed")),
            (Outcome::Stale, Some("aside; hit; ttl=-1; detail=database-away; aside-read-age=631"), None),
            (Outcome::Bypass, Some("aside-l1; fwd=request"), Some("aside-l1; fwd=request")),
        ];
        for (outcome, with_l2, without) in cases {
            assert_eq!(text(&answer(outcome), true).as_deref(), with_l2, "{outcome:?}");
            if let Some(without) = without {
                assert_eq!(text(&answer(outcome), false).as_deref(), Some(without), "{outcome:?}");
            }
        }
        for outcome in Outcome::ALL {
            let unkept = cache_status(&Representation { stored: false, ..answer(outcome) }, true);
            assert!(unkept.is_none_or(|status| !status.to_str().unwrap().contains("stored")), "{outcome:?}");
            let status = text(&answer(outcome), true);
            let silent = matches!(outcome, Outcome::NotCached | Outcome::Failed);
            assert_eq!(status.is_none(), silent, "{outcome:?}");
            let exclusive =
                status.is_none_or(|status| status.split(", ").all(|one| one.contains("hit") != one.contains("fwd=")));
            assert!(exclusive, "{outcome:?}: hit and fwd exclude each other");
        }
    }

    #[test]
    fn an_entry_that_has_outlived_its_lifetime_has_a_negative_ttl() {
        for (ttl_ms, expected) in
            [(999, "ttl=0;"), (0, "ttl=0;"), (-1, "ttl=-1;"), (-1_000, "ttl=-1;"), (-1_001, "ttl=-2;")]
        {
            let status = text(&Representation { ttl_ms, ..answer(Outcome::L1Hit) }, true).unwrap();
            assert!(status.contains(expected), "{ttl_ms}: {status}");
        }
    }

    #[test]
    fn a_304_has_the_headers_of_the_200() {
        let names = |response: &Response| {
            let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
            names.retain(|name| !["content-type", "content-length"].contains(&name.as_str()));
            names.sort();
            names
        };
        for cache_control in [&CATALOGUE, &PERSONAL] {
            for outcome in [Outcome::L1Hit, Outcome::LoadedCold] {
                let answer = || answer(outcome);
                let full = answer().respond(&Conditions::default(), cache_control, true).unwrap();
                let unchanged = Conditions::none_of("\"3-00000000000000ab\"");
                let not_modified = answer().respond(&unchanged, cache_control, true).unwrap();
                assert_eq!(full.status(), 200);
                assert_eq!(not_modified.status(), 304);
                assert_eq!(names(&full), names(&not_modified));
                for name in ["etag", "age", "cache-control", "cache-status", "consistency-token"] {
                    assert_eq!(full.headers().get(name), not_modified.headers().get(name), "{name}");
                }
                // Its presence would claim that the answer was not generated for this request.
                assert_eq!(
                    full.headers().get("age").map(|age| age.as_bytes()),
                    (!outcome.is_load()).then_some(&b"1"[..])
                );
            }
        }
    }
}
