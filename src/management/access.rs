//! Decides which requests may use the management listener. With a token, every request that
//! presents it may. Without one, the listener is on loopback (`config` enforces this), and every
//! user of the machine may. Web pages in a browser on the machine are refused.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::{Management, page::is_file, problem::problem};

/// Accepts a request or refuses it.
pub async fn guard(State(state): State<Management>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    match &state.token {
        // The page asks the user for the token and sends it to the other routes.
        Some(_) if is_file(request.uri().path()) => next.run(request).await,
        Some(token) if !presents(headers, token) => problem(
            StatusCode::UNAUTHORIZED,
            "This listener asks for the token in MANAGEMENT_TOKEN: Authorization: Bearer …",
        ),
        None if !from_this_machine(headers) => {
            let detail = "Without MANAGEMENT_TOKEN only programs on this machine may ask, by address or as localhost, and no pages of other sites.";
            problem(StatusCode::FORBIDDEN, detail)
        }
        _ => next.run(request).await,
    }
}

fn presents(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case("bearer") && same(given.trim().as_bytes(), token.as_bytes())
    })
}

/// Compares two texts in a time that depends only on their lengths, so a token can't be guessed
/// byte by byte.
fn same(a: &[u8], b: &[u8]) -> bool {
    let different = a.iter().zip(b).fold(0, |different, (a, b)| std::hint::black_box(different | (a ^ b)));
    a.len() == b.len() && different == 0
}

/// Returns whether the request comes from this machine and not from a page of another site. Such a
/// page is revealed by `Sec-Fetch-Site`. If its host name was made to resolve to this machine (DNS
/// rebinding), `Host` reveals it.
fn from_this_machine(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let own_site =
        matches!(text(header::HeaderName::from_static("sec-fetch-site")), None | Some("same-origin" | "none"));
    own_site && text(header::HOST).is_none_or(is_local)
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_is_taken_only_when_it_is_the_whole_one() {
        let right = "0123456789abcdef";
        for (value, expected) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcdeX", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(presents(&headers(&[("authorization", value)]), right), expected, "{value}");
        }
        assert!(!presents(&HeaderMap::new(), right));
    }

    #[test]
    fn without_a_token_pages_of_other_sites_are_kept_out() {
        for (pairs, expected) in [
            (&[("host", "127.0.0.1:3001")][..], true),
            (&[("host", "localhost:3001")], true),
            (&[("host", "[::1]:3001")], true),
            (&[("host", "rebound.example:3001")], false),
            (&[("host", "localhost.rebound.example")], false),
            (&[("host", "localhost:3001"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "localhost:3001"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "localhost:3001"), ("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(from_this_machine(&headers(pairs)), expected, "{pairs:?}");
        }
    }
}
