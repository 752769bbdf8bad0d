//! A reply of the service, and the expectations that a test has of it. A failed expectation shows
//! the whole reply.

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;

/// A reply of the service, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The request line, for messages.
    pub request: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    /// Reads a response to its end.
    pub async fn read(request: String, response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap_or_else(|error| panic!("{request}: the body broke off: {error}"));
        Self { request, status, headers, text }
    }

    /// Asserts this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}\n{self:#?}", self.request);
        self
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("no JSON ({error})\n{self:#?}"))
    }

    /// Returns the body of a success as JSON.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(self.status.is_success(), "a success was expected\n{self:#?}");
        self.json()
    }

    /// Returns the body of a success without the counted views, which change by themselves.
    #[track_caller]
    pub fn without_views(&self) -> Value {
        let mut body = self.ok();
        if let Some(members) = body.as_object_mut() {
            members.remove("view_count");
        }
        body
    }

    /// Returns the value at a JSON Pointer of the body.
    #[track_caller]
    pub fn at(&self, pointer: &str) -> Value {
        self.json().pointer(pointer).cloned().unwrap_or_else(|| panic!("nothing at {pointer}\n{self:#?}"))
    }

    /// Returns the integer at a JSON Pointer of the body.
    #[track_caller]
    pub fn int(&self, pointer: &str) -> i64 {
        self.at(pointer).as_i64().unwrap_or_else(|| panic!("no integer at {pointer}\n{self:#?}"))
    }

    /// Returns the `id` members of the body's `items`.
    #[track_caller]
    pub fn ids(&self) -> Vec<i64> {
        let items = self.at("/items");
        let items = items.as_array().unwrap_or_else(|| panic!("`items` is no array\n{self:#?}"));
        items.iter().map(|item| item["id"].as_i64().expect("an id")).collect()
    }

    /// Returns a header field as text. Several lines of it are joined as HTTP allows.
    pub fn header(&self, name: &str) -> Option<String> {
        let lines: Vec<_> = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// Returns a header field that must be present.
    #[track_caller]
    pub fn must_have(&self, name: &str) -> String {
        self.header(name).unwrap_or_else(|| panic!("no {name}\n{self:#?}"))
    }

    /// Returns the entity tag, which must be strong. A weak one never satisfies `If-Match`.
    #[track_caller]
    pub fn etag(&self) -> String {
        let tag = self.must_have("etag");
        assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "not a strong tag: {tag}\n{self:#?}");
        tag
    }

    /// Returns `Cache-Status`, which is empty if the reply has none.
    pub fn cache_status(&self) -> CacheStatus {
        CacheStatus(self.header("cache-status").unwrap_or_default())
    }

    /// Asserts that the reply is a problem (RFC 9457) of this type. The status must be the same in
    /// the status line and in the body.
    #[track_caller]
    pub fn problem(&self, kind: &str, status: u16) -> Problem {
        self.expect(status);
        assert_eq!(self.must_have("content-type"), "application/problem+json", "{self:#?}");
        let body = self.json();
        let named = body["type"].as_str().unwrap_or_default();
        let last = named.rsplit(['/', ':', '#']).next().unwrap_or_default();
        assert_eq!(last, kind, "another type of problem\n{self:#?}");
        assert_eq!(body["status"], status, "the body's status differs from the line's\n{self:#?}");
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "a problem without a title\n{self:#?}");
        self.must_have("cache-control");
        Problem { body }
    }
}

/// The body of a problem.
#[derive(Clone, Debug)]
pub struct Problem {
    pub body: Value,
}

impl Problem {
    /// Asserts that one of the errors names this place. A place is a JSON Pointer into the body
    /// (`/price_cents`), a parameter or a header field.
    #[track_caller]
    pub fn names(&self, place: &str) -> &Self {
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        let named =
            errors.iter().any(|error| ["pointer", "parameter", "header"].iter().any(|member| error[*member] == place));
        assert!(named, "no error names {place}: {:#}", self.body);
        self
    }
}

/// The field `Cache-Status` (RFC 9211). The tier nearest to the database comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStatus(pub String);

impl CacheStatus {
    /// Returns whether this tier (`l1`, `l2`) reports a hit.
    pub fn hit(&self, tier: &str) -> bool {
        self.member(tier).is_some_and(|member| member.split(';').any(|part| part.trim() == "hit"))
    }

    /// Returns the member of a tier with its parameters.
    pub fn member(&self, tier: &str) -> Option<String> {
        let members = self.0.split(',').map(str::trim);
        members
            .filter(|member| member.split(';').next().is_some_and(|name| name.trim().trim_matches('"').ends_with(tier)))
            .map(String::from)
            .next()
    }

    /// Asserts a hit in this tier.
    #[track_caller]
    pub fn expect_hit(&self, tier: &str) {
        assert!(self.hit(tier), "no hit in {tier}: {:?}", self.0);
    }

    /// Asserts that no tier reports a hit, so the database was read.
    #[track_caller]
    pub fn expect_load(&self) {
        assert!(!self.hit("l1") && !self.hit("l2"), "a tier answered: {:?}", self.0);
    }
}
