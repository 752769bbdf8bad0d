//! The directives in `Cache-Control` of a request (RFC 9111, section 5.2.1). The RFC does not
//! require a cache to follow them.

use std::time::Duration;

use aside_cache::CacheMode;
use axum::http::{HeaderMap, header};

/// The directives of a request. Unknown and malformed directives are skipped.
///
/// ```
/// use aside_axum::Directives;
/// use aside_cache::CacheMode;
/// use axum::http::{HeaderMap, HeaderValue, header};
///
/// let no_cache = HeaderValue::from_static("no-cache");
/// let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, no_cache)]);
/// assert_eq!(Directives::parse(&headers).mode, CacheMode::Reload);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// How the read may use the tiers: `no-cache` reloads, `no-store` loads and stores nothing, and
    /// `only-if-cached` never loads. `only-if-cached` takes precedence, because a client that sends
    /// it wants no load at all. `no-store` comes second, because it stores nothing.
    pub mode: CacheMode,
    /// `max-age`: the highest `Age` of an answer that the client wants. [`ReadRequest`] does not
    /// follow it, because browsers send `max-age=0` with every reload of a page.
    ///
    /// [`ReadRequest`]: super::ReadRequest
    pub max_age: Option<Duration>,
}

impl Directives {
    /// Reads the directives of all `Cache-Control` headers.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            let mut quoted = false;
            let ends = |byte: &u8| {
                quoted ^= *byte == b'"';
                *byte == b',' && !quoted
            };
            value.as_bytes().split(ends).for_each(|directive| found.add(directive));
        }
        found
    }

    fn add(&mut self, directive: &[u8]) {
        let mut parts = directive.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        let (name, argument) = (parts.next().unwrap_or_default(), parts.next());
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"only-if-cached") {
            self.mode = CacheMode::OnlyIfCached;
        } else if is(b"no-store") && self.mode != CacheMode::OnlyIfCached {
            self.mode = CacheMode::NoStore;
        } else if is(b"no-cache") && self.mode == CacheMode::Default {
            self.mode = CacheMode::Reload;
        } else if is(b"max-age") {
            let seconds = argument.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            self.max_age = seconds.map(Duration::from_secs).or(self.max_age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(values: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CACHE_CONTROL, value.parse().unwrap());
        }
        Directives::parse(&headers)
    }

    #[test]
    fn request_directives_are_read_tolerantly() {
        use CacheMode::{Default, NoStore, OnlyIfCached, Reload};
        let cases: &[(&[&str], CacheMode)] = &[
            (&[], Default),
            (&["no-cache"], Reload),
            (&["No-Cache"], Reload),
            (&["max-age=0, no-cache"], Reload),
            (&["no-cache=\"x\""], Reload),
            (&["no-cache, no-store"], NoStore),
            (&["no-store", "no-cache"], NoStore),
            (&["no-cache", "only-if-cached"], OnlyIfCached),
            (&["only-if-cached, no-store, no-cache"], OnlyIfCached),
            (&["max-age=60"], Default),
            (&["nocache"], Default),
            (&["x=\"a, no-store, b\""], Default),
            (&["x=\"a, b\", no-store"], NoStore),
            (&[",,=,;"], Default),
        ];
        for (values, expected) in cases {
            assert_eq!(parsed(values).mode, *expected, "{values:?}");
        }
    }

    #[test]
    fn the_highest_age_is_a_number_of_seconds() {
        for (value, expected) in
            [("max-age=60", Some(60)), ("Max-Age = 0", Some(0)), ("max-age", None), ("max-age=x", None)]
        {
            assert_eq!(parsed(&[value]).max_age, expected.map(Duration::from_secs), "{value}");
        }
    }
}
