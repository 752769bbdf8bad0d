//! From a read of the cache to a response: the bytes as the tier keeps them, and the headers that say how fresh they are and
//! where they came from.
//!
//! Promises: an answer from L1 is neither decoded nor encoded; the tag is computed from the same entry as the body; a 304 has
//! the headers of the 200. `Age` counts from the last moment at which the answer was known to be current (RFC 9111, section 5.1):
//! a hit was proven current by the last poll of the ledger, so its lifetime begins there, however long ago Postgres was read.

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
use crate::{
    cache::{self, Cacheable, Cached, ConsistencyToken, Outcome, TagVersion},
    cdn::{SurrogateKeys, Tagged},
};

/// What caches between here and the user may do with a kind of answer: the headers of all such answers. First the names of those
/// that every answer has a value of its own for, in the order of [`Answer::respond`].
#[derive(Debug)]
pub struct CacheControl(LazyLock<HeaderMap>);

/// Catalogue data: public, and for a short time, because an answer can't be taken back from a browser. Five seconds keep a page's
/// repeated requests away. A price that is shown late does no harm, as orders take theirs from the database. The two windows are
/// those of RFC 5861.
static CATALOGUE: CacheControl = CacheControl(LazyLock::new(|| {
    prepared([(header::CACHE_CONTROL, "public, max-age=5, stale-while-revalidate=10, stale-if-error=60")])
}));

/// One customer's data: only the user's own browser may keep it, and must ask before every reuse (304 when nothing changed).
pub static PERSONAL: CacheControl = CacheControl(LazyLock::new(|| {
    prepared([(header::CACHE_CONTROL, "private, no-cache"), (header::VARY, "authorization")])
}));

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NOTHING: HeaderValue = HeaderValue::from_static("");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The headers that have a value of their own in every answer, or are left out.
const OWN: [HeaderName; 6] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ETAG, header::AGE, CACHE_STATUS, CONSISTENCY_TOKEN];

/// All headers of a kind of answer, also the one that `observe` gives its value, so that nothing has to be added.
fn prepared<const N: usize>(constant: [(HeaderName, &'static str); N]) -> HeaderMap {
    let to_come = |name| (name, NOTHING);
    let constant = constant.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let all = OWN.map(to_come).into_iter().chain(constant);
    all.chain([to_come(REQUEST_ID), observe::NO_SNIFFING]).collect()
}

/// A representation that is ready to be sent, and what is known of its freshness.
#[derive(Clone, Debug)]
pub struct Representation {
    pub body: Bytes,
    pub tag: EntityTag,
    /// Time since it was last known to be current; `None` when the database was read for this request, which `Age` would deny.
    pub age: Option<Duration>,
    /// Time since the database was read.
    pub since_read: Duration,
    /// What is left of its lifetime in L1; below zero when it has outlived it.
    pub ttl_ms: i64,
    pub outcome: Outcome,
    /// Whether L1 may hold it.
    pub stored: bool,
    pub token: Option<ConsistencyToken>,
    /// Its key pattern, the names that it depends on, and the age at which it may not be answered any more.
    pub pattern: &'static str,
    pub tag_versions: Arc<[TagVersion]>,
    pub max_age: Duration,
}

impl Representation {
    /// The answer of a read; `version` names the version of a single thing and gives `None` for a list.
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

    /// The response to a GET or HEAD of the catalogue, marked for the shared cache in front of the service if there is one. A flagged answer is
    /// nobody's to keep.
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

    /// The response to a GET or HEAD: 200, 304, or 412. `l2`: whether there is a second tier to speak of.
    pub fn respond(self, conditions: &Conditions, cache_control: &CacheControl, l2: bool) -> Result<Response, Problem> {
        let (status, length) = match conditions.evaluate(&self.tag) {
            PreconditionResult::Proceed => (StatusCode::OK, Some(self.body.len())),
            PreconditionResult::NotModified => (StatusCode::NOT_MODIFIED, None),
            PreconditionResult::Failed => {
                return Err(Problem::new(&Kind::VERSION_CONFLICT, "If-Match names no current representation."));
            }
        };
        // A copy in which the values are put into their places costs half of what building it costs.
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

/// The response to a write that returns the new state: a representation of the resource at `path`, so its tag can be used for
/// the next `If-Match`.
pub fn written(status: StatusCode, path: &str, version: i64, body: Bytes) -> Result<Response, Problem> {
    let path = HeaderValue::try_from(path).map_err(|_| Problem::internal("a path is not a header value"))?;
    let tag = EntityTag::new(Some(version), cache::digest(&body)).header();
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

/// The JSON of a value that was just written.
pub fn encode(value: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|_| Problem::internal("a value has no JSON form"))
}

/// `Cache-Status` (RFC 9211): the tiers' names and what each did, the one nearest to the database first. Keys are never named.
/// The RFC speaks of HTTP caches; the mapping of the outcomes is this service's own, and so is the parameter `aside-read-age`: seconds
/// since the database was read.
fn cache_status(answer: &Representation, l2: bool) -> Option<HeaderValue> {
    let ttl = answer.ttl_ms.div_euclid(1000);
    let read_age = answer.since_read.as_secs() as i64;
    let stored = if answer.stored { "; stored" } else { "" };
    let mut text = Text::default();
    // What L2 did (left out when there is none), and what L1 did, before and behind `stored`.
    let (second, first, detail) = match answer.outcome {
        Outcome::L1Hit => {
            text.put("aside-l1; hit; ttl=").number(ttl).put("; aside-read-age=").number(read_age);
            return Some(text.value());
        }
        Outcome::L2Hit => {
            text.put("aside-l2; hit; ttl=").number(ttl).put("; aside-read-age=").number(read_age);
            return Some(text.put(", aside-l1; fwd=miss").put(stored).value());
        }
        // The lifetime it should have had, as a negative number: this is how the RFC flags a stale answer. Which tier held it is not said.
        Outcome::Stale => {
            text.put("aside; hit; ttl=").number(ttl.min(-1)).put("; detail=database-away; aside-read-age=");
            return Some(text.number(read_age).value());
        }
        Outcome::Collapsed => return Some(HeaderValue::from_static("aside-l1; fwd=miss; collapsed")),
        Outcome::Bypass => return Some(HeaderValue::from_static("aside-l1; fwd=request")),
        // An entry was found and refused. Which tier held it is not said.
        Outcome::LoadedExpired | Outcome::LoadedInvalidated => {
            let detail = if answer.outcome == Outcome::LoadedInvalidated { "invalidated" } else { "expired" };
            let name = if l2 { "aside; fwd=stale" } else { "aside-l1; fwd=stale" };
            return Some(text.put(name).put(stored).put("; detail=").put(detail).value());
        }
        // Whether L2 is filled is not known yet: no `stored` there.
        Outcome::LoadedCold => ("fwd=miss", "fwd=miss", ""),
        Outcome::LoadedNotCurrent => ("fwd=bypass; detail=not-current", "fwd=bypass", "; detail=not-current"),
        Outcome::LoadedUnreadable => ("fwd=miss; detail=unreadable", "fwd=miss", ""),
        Outcome::L2Error => ("fwd=bypass; detail=error", "fwd=miss", ""),
        Outcome::L2Skipped => ("fwd=bypass; detail=breaker-open", "fwd=miss", ""),
        // An error that this service makes by itself tells nothing about a cache (RFC 9211, section 2).
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
                // Its presence would say that the answer was not generated for this request.
                assert_eq!(
                    full.headers().get("age").map(|age| age.as_bytes()),
                    (!outcome.is_load()).then_some(&b"1"[..])
                );
            }
        }
    }
}
