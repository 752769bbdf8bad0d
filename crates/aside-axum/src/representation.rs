//! A read of the cache as a response: the bytes as the tier stores them, and the headers about
//! their freshness and origin.
//!
//! An answer from L1 is neither decoded nor encoded. The entity tag is computed from the same entry
//! as the body, and a 304 has the headers of the 200. `Age` counts from the last time at which the
//! answer was known to be current (RFC 9111, section 5.1). The last poll of the ledger proved that
//! a hit is current. Its `Age` therefore starts at that poll and not at the read of Postgres.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aside_cache::{Cacheable, Cached, ConsistencyToken, Entry, Outcome, TagVersion};
use axum::{
    body::Bytes,
    http::{HeaderValue, header},
    response::Response,
};

use super::{
    cache_status::cache_status,
    conditions::{Conditions, Validation},
    consistency::token_header,
    entity_tag::EntityTag,
    lifetime::within,
    refusal::Refusal,
    template::HeaderTemplate,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A representation that is ready to be sent, with its freshness.
#[derive(Clone, Debug)]
pub struct Representation {
    /// The JSON.
    pub body: Bytes,
    /// The entity tag of the body.
    pub tag: EntityTag,
    /// The time since the answer was last known to be current. It is `None` when the database was
    /// read for this request, because an `Age` header would deny that.
    pub age: Option<Duration>,
    /// The time since the database was read.
    pub since_read: Duration,
    /// The remaining lifetime in L1, in milliseconds. It is negative when the lifetime has ended.
    pub ttl_ms: i64,
    /// The time until the end of the answer, from which on no cache may serve it.
    pub valid_for: Option<Duration>,
    /// The source of the answer.
    pub outcome: Outcome,
    /// Whether L1 may store it.
    pub stored: bool,
    /// The token of the answer.
    pub token: Option<ConsistencyToken>,
    /// The time of the last change, for `Last-Modified`. It is `None` unless the service sets it.
    pub last_modified: Option<SystemTime>,
    /// The name of the cached type.
    pub pattern: &'static str,
    /// The tags on which the answer depends.
    pub tag_versions: Arc<[TagVersion]>,
    /// The age from which the answer may not be served.
    pub max_age: Duration,
}

impl Representation {
    /// The representation of a list, or of another value without a version. `If-Match` compares its
    /// bytes.
    ///
    /// # Errors
    /// Returns [`Refusal::Absent`] if there is no value.
    pub fn of<T: Cacheable>(read: &Cached<T>) -> Result<Self, Refusal> {
        Self::with_version(read, |_| None)
    }

    /// The representation of a resource. `version` returns the version of its row, which `If-Match`
    /// compares.
    ///
    /// # Errors
    /// Returns [`Refusal::Absent`] if there is no value.
    pub fn versioned<T: Cacheable>(read: &Cached<T>, version: impl FnOnce(&T) -> i64) -> Result<Self, Refusal> {
        Self::with_version(read, |value| Some(version(value)))
    }

    fn with_version<T: Cacheable>(read: &Cached<T>, version: impl FnOnce(&T) -> Option<i64>) -> Result<Self, Refusal> {
        let Entry { value, body, digest, tag_versions, .. } = &*read.entry;
        let value = value.as_ref().ok_or(Refusal::Absent)?;
        Ok(Self {
            body: body.clone(),
            tag: EntityTag::new(version(value), *digest),
            age: read.age,
            since_read: read.since_read,
            ttl_ms: read.ttl_ms,
            valid_for: read.valid_for,
            outcome: read.outcome,
            stored: read.stored,
            token: read.token.clone(),
            last_modified: None,
            pattern: T::POLICY.name,
            tag_versions: Arc::clone(tag_versions),
            max_age: T::POLICY.max_age,
        })
    }

    /// The representation of a body that was composed of several reads. It has the highest age and
    /// the lowest freshness of its parts, and the outcome of the part from the farthest tier.
    pub fn composed<'a, T: Cacheable>(reads: impl IntoIterator<Item = &'a Cached<T>>, body: Bytes) -> Self {
        let reads: Vec<_> = reads.into_iter().collect();
        let farthest = reads.iter().map(|read| read.outcome).min_by_key(|outcome| Reverse(distance(*outcome)));
        Self {
            tag: EntityTag::of(None, &body),
            body,
            age: reads.iter().filter_map(|read| read.age).max(),
            since_read: reads.iter().map(|read| read.since_read).max().unwrap_or_default(),
            valid_for: reads.iter().filter_map(|read| read.valid_for).min(),
            ttl_ms: reads.iter().map(|read| read.ttl_ms).min().unwrap_or_default(),
            outcome: farthest.unwrap_or(Outcome::L1Hit),
            stored: reads.iter().all(|read| read.stored),
            // A read time covers all tags, so the latest token is valid for the whole answer.
            token: reads.iter().filter_map(|read| read.token.clone()).max(),
            last_modified: None,
            pattern: T::POLICY.name,
            tag_versions: reads.iter().flat_map(|read| read.entry.tag_versions.iter().cloned()).collect(),
            max_age: T::POLICY.max_age,
        }
    }

    /// The response to a GET or HEAD with these `conditions`: 200, or 304 without a body. `l2`
    /// tells whether the service has a second tier.
    /// [`ReadRequest::respond`](super::ReadRequest::respond) knows both.
    ///
    /// # Errors
    /// Returns [`Refusal::PreconditionFailed`] if `If-Match` names no current representation.
    pub fn respond(self, conditions: &Conditions, template: &HeaderTemplate, l2: bool) -> Result<Response, Refusal> {
        let validation = conditions.evaluate(&self.tag)?;
        let length = (validation == Validation::Modified).then_some(self.body.len());
        let mut headers = template.fill([
            length.map(|_| JSON),
            length.map(HeaderValue::from),
            Some(self.tag.header()),
            self.age.map(|age| age.as_secs().into()),
            cache_status(&self, l2),
            self.token.as_ref().map(token_header),
        ]);
        if let (Some(left), Some(control)) = (self.valid_for, headers.get_mut(header::CACHE_CONTROL)) {
            *control = within(control, left);
        }
        if self.outcome == Outcome::Stale {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        let last_modified = self.last_modified.and_then(|time| httpdate::fmt_http_date(time).try_into().ok());
        if let Some(last_modified) = last_modified {
            headers.insert(header::LAST_MODIFIED, last_modified);
        }
        Ok(validation.respond(headers, self.body))
    }
}

/// How far the tier of an outcome is from the request. A stale answer is the farthest, because it
/// must be flagged.
fn distance(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::L1Hit => 0,
        Outcome::L2Hit => 1,
        Outcome::Collapsed => 2,
        Outcome::Stale => 4,
        _ => 3,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aside_cache::{DbTime, Policy};
    use axum::http::{HeaderMap, Method};

    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Note(i64);

    impl Cacheable for Note {
        const POLICY: Policy = Policy::public("note", Duration::from_hours(1));
    }

    fn read(note: i64, outcome: Outcome, since_read: u64, ttl: i64) -> Cached<Note> {
        let entry = Entry {
            value: (note > 0).then_some(Note(note)),
            body: note.to_string().into(),
            digest: 0xab,
            tag_versions: Arc::new([]),
            loaded_at: DbTime(0),
            snapshot_upper_bound: DbTime(0),
            valid_until: None,
        };
        let age = (!outcome.is_load()).then_some(Duration::from_secs(since_read.min(2)));
        let (since_read, token) = (Duration::from_secs(since_read), "0a1b2c-17".parse().ok());
        let (entry, ttl_ms) = (Arc::new(entry), ttl * 1000);
        Cached { entry, outcome, age, since_read, ttl_ms, valid_for: None, stored: true, token }
    }

    /// An answer of this origin, for the tests of its headers.
    pub(crate) fn answer(outcome: Outcome) -> Representation {
        let answer = Representation::versioned(&read(7, outcome, 631, 12), |_| 3).unwrap();
        Representation { age: answer.age.map(|_| Duration::from_millis(1_999)), ..answer }
    }

    fn conditions(if_none_match: &'static str) -> Conditions {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(if_none_match))]);
        Conditions::parse(&Method::GET, &headers).unwrap()
    }

    #[test]
    fn a_304_has_the_headers_of_the_200() {
        let names = |response: &Response| {
            let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
            names.retain(|name| !["content-type", "content-length"].contains(&name.as_str()));
            names.sort();
            names
        };
        let personal = HeaderTemplate::new("private, no-cache").with(header::VARY, HeaderValue::from_static("cookie"));
        for template in [HeaderTemplate::new("public, max-age=5"), personal] {
            for outcome in [Outcome::L1Hit, Outcome::LoadedCold] {
                let answer = || Representation { last_modified: Some(SystemTime::UNIX_EPOCH), ..answer(outcome) };
                let full = answer().respond(&Conditions::default(), &template, true).unwrap();
                let unchanged = conditions("\"3-00000000000000ab\"");
                let not_modified = answer().respond(&unchanged, &template, true).unwrap();
                assert_eq!((full.status().as_u16(), not_modified.status().as_u16()), (200, 304));
                assert_eq!(names(&full), names(&not_modified));
                for name in ["etag", "age", "cache-control", "cache-status", "consistency-token", "last-modified"] {
                    assert_eq!(full.headers().get(name), not_modified.headers().get(name), "{name}");
                }
                // Its presence would claim that the answer was not generated for this request.
                let age = full.headers().get("age").map(|age| age.as_bytes());
                assert_eq!(age, (!outcome.is_load()).then_some(&b"1"[..]));
                assert_eq!(full.headers()["last-modified"], "Thu, 01 Jan 1970 00:00:00 GMT");
            }
        }
    }

    #[test]
    fn a_stale_answer_may_not_be_stored() {
        let template = HeaderTemplate::new("public, max-age=5");
        let stale = answer(Outcome::Stale).respond(&Conditions::default(), &template, true).unwrap();
        assert_eq!(stale.headers()["cache-control"], "no-store");
    }

    #[test]
    fn no_cache_may_serve_an_answer_after_its_end() {
        let template = HeaderTemplate::new("public, max-age=5, stale-if-error=60");
        let control = |left| {
            let answer = Representation { valid_for: left, ..answer(Outcome::L1Hit) };
            let response = answer.respond(&Conditions::default(), &template, true).unwrap();
            response.headers()["cache-control"].to_str().unwrap().to_owned()
        };
        assert_eq!(control(None), "public, max-age=5, stale-if-error=60");
        assert_eq!(control(Some(Duration::from_millis(2_999))), "public, max-age=2, must-revalidate");
        let mut reads = [read(7, Outcome::L1Hit, 3, 57), read(2, Outcome::L2Hit, 20, 40)];
        reads[1].valid_for = Some(Duration::from_secs(4));
        assert_eq!(Representation::composed(&reads, "[7,2]".into()).valid_for, Some(Duration::from_secs(4)));
    }

    #[test]
    fn an_absent_value_has_no_representation() {
        assert_eq!(Representation::of(&read(0, Outcome::L1Hit, 1, 1)).unwrap_err(), Refusal::Absent);
    }

    #[test]
    fn a_composed_answer_is_as_fresh_as_its_worst_part() {
        let reads =
            [read(7, Outcome::L1Hit, 3, 57), read(0, Outcome::LoadedCold, 0, 60), read(2, Outcome::L2Hit, 20, 40)];
        let whole = Representation::composed(&reads, "[7,2]".into());
        assert_eq!((whole.age, whole.since_read), (Some(Duration::from_secs(2)), Duration::from_secs(20)));
        assert_eq!((whole.ttl_ms, whole.outcome), (40_000, Outcome::LoadedCold));
        assert_eq!(whole.tag, EntityTag::of(None, b"[7,2]"));
        let nothing = Representation::composed::<Note>([], "[]".into());
        assert_eq!((nothing.ttl_ms, nothing.outcome, nothing.age), (0, Outcome::L1Hit, None));
    }
}
