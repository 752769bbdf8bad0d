//! Checks the target of a request (RFC 9110, section 7.1) before routing. Its host must be valid,
//! and equivalent paths are normalised.

use std::{borrow::Cow, net::Ipv6Addr};

use axum::{
    extract::Request,
    http::{Uri, Version, header, uri::PathAndQuery},
};

use super::problem::Problem;

/// The rule for the `Host` header, shown when it is refused.
const HOST_RULE: &str = "must be given once, as a host name or address, perhaps with a port";

/// Checks the host of a request. The error is the rule that it breaks, as the rest of a sentence
/// about the header.
pub fn check_host<B>(request: &axum::http::Request<B>) -> Result<(), &'static str> {
    if has_valid_host(request) { Ok(()) } else { Err(HOST_RULE) }
}

/// Refuses a request without one valid host.
pub fn require_host(request: &Request) -> Result<(), Problem> {
    check_host(request).map_err(|rule| Problem::header("Host", rule))
}

/// Returns whether the host of a request is valid (RFC 9112, section 3.2). HTTP/1.1 requires one,
/// and HTTP/1.0 does not. HTTP/2 uses `:authority`, and a `Host` header must not contradict it (RFC
/// 9113, section 8.3.1).
fn has_valid_host<B>(request: &axum::http::Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let authority = request.uri().authority();
    if authority.is_some_and(|authority| !is_host(authority.as_str().as_bytes())) {
        return false;
    }
    match host {
        None => request.version() != Version::HTTP_11,
        Some(host) => {
            let agrees = authority
                .filter(|_| request.version() == Version::HTTP_2)
                .is_none_or(|authority| authority.as_str().as_bytes() == host.as_bytes());
            more.is_none() && is_host(host.as_bytes()) && agrees
        }
    }
}

/// `uri-host [ ":" port ]` (RFC 3986, section 3.2.2).
fn is_host(value: &[u8]) -> bool {
    let end = match value {
        [b'[', ..] => value.iter().position(|byte| *byte == b']').map_or(value.len(), |end| end + 1),
        _ => value.iter().position(|byte| *byte == b':').unwrap_or(value.len()),
    };
    let (name, port) = value.split_at(end);
    let is_name = match name {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        name => name.iter().all(|byte| is_unreserved(*byte) || b"!$&'()*+,;=%".contains(byte)),
    };
    is_name && matches!(port, [] | [b':', ..]) && port.iter().skip(1).all(u8::is_ascii_digit)
}

/// Returns whether a byte is unreserved: letters, digits, hyphen, dot, underscore and tilde. Its
/// plain and percent-encoded spellings mean the same.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Decodes percent-encoded unreserved characters of the path. Both spellings are the same URI (RFC
/// 9110, section 4.2.3; RFC 3986, section 6.2.2.2).
pub fn with_normal_path(mut request: Request) -> Request {
    let uri = request.uri();
    if !uri.path().contains('%') {
        return request;
    }
    let path = decoded(uri.path().as_bytes(), is_unreserved);
    let Cow::Owned(mut path) = path else { return request };
    if let Some(query) = uri.query() {
        path.push(b'?');
        path.extend(query.as_bytes());
    }
    let mut parts = uri.clone().into_parts();
    // The new path is shorter than the old one and also valid.
    if let Ok(path) = PathAndQuery::from_maybe_shared(path) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// Decodes percent-encoded bytes if `may_be` accepts the plain byte.
pub fn decoded(text: &[u8], may_be: impl Fn(u8) -> bool) -> Cow<'_, [u8]> {
    let encoded = |at: usize| match text.get(at..at + 3) {
        Some([b'%', high, low]) => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
            may_be(byte).then_some(byte)
        }
        _ => None,
    };
    let Some(first) = (0..text.len()).find(|at| encoded(*at).is_some()) else { return Cow::Borrowed(text) };
    let (mut plain, mut at) = (text[..first].to_vec(), first);
    while at < text.len() {
        match encoded(at) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(text[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_perhaps_with_a_port() {
        for valid in
            ["", "a", "shop.example", "127.0.0.1:3000", "[::1]", "[::1]:80", "a:", "a_b~c", "xn--bcher-kva.example"]
        {
            assert!(is_host(valid.as_bytes()), "{valid}");
        }
        for invalid in
            ["a b", "a/c", "a b/c", "a:b", "user@a", "[::1", "[x]", "[::1]x", "::1", "a:80:80", "a\u{e9}", "a?b", "a#b"]
        {
            assert!(!is_host(invalid.as_bytes()), "{invalid}");
        }
    }

    #[test]
    fn hosts_are_asked_for_by_the_version() {
        let valid = |version, uri: &str, hosts: &[&str]| {
            let mut request = axum::http::Request::get(uri).version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            has_valid_host(&request.body(()).unwrap())
        };
        assert!(valid(Version::HTTP_11, "/", &["a"]) && valid(Version::HTTP_10, "/", &[]));
        assert!(!valid(Version::HTTP_11, "/", &[]) && !valid(Version::HTTP_11, "/", &["a", "a"]));
        assert!(!valid(Version::HTTP_10, "/", &["a", "b"]) && !valid(Version::HTTP_10, "/", &["a b"]));
        assert!(valid(Version::HTTP_2, "http://a/", &[]) && valid(Version::HTTP_2, "http://a/", &["a"]));
        assert!(!valid(Version::HTTP_2, "http://a/", &["b"]));
        assert!(valid(Version::HTTP_11, "http://a/", &["b"]), "the absolute form wins");
        assert!(!valid(Version::HTTP_2, "http://user@a/", &[]) && !valid(Version::HTTP_11, "http://user@a/", &["a"]));
    }

    #[test]
    fn unreserved_characters_of_a_path_stand_for_themselves() {
        for (given, expected) in [
            ("/products/%31", "/products/1"),
            ("/%70roducts/1?x=%31", "/products/1?x=%31"),
            ("/a%2Fb%20c", "/a%2Fb%20c"),
            ("/%7e%2d", "/~-"),
            ("/%", "/%"),
            ("/%3", "/%3"),
            ("/%zz%41", "/%zzA"),
            ("/plain", "/plain"),
        ] {
            let request = with_normal_path(Request::get(given).body(Body::empty()).unwrap());
            assert_eq!(request.uri().to_string(), expected);
        }
    }
}
