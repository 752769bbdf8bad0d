//! `Cache-Control` of an answer that says until when it is right. No cache may serve the answer
//! after its end, not even while it revalidates or while the service is down.

use std::time::Duration;

use axum::http::HeaderValue;

/// Shortens the lifetimes of a `Cache-Control` to `left`, and forbids to serve the answer stale
/// (RFC 9111, section 5.2.2.2). A control that names no lifetime gets one, because a cache may
/// otherwise choose its own (section 4.2.2).
///
/// ```
/// use aside_axum::within;
/// use axum::http::HeaderValue;
/// use std::time::Duration;
///
/// let control = HeaderValue::from_static("public, max-age=60, stale-if-error=600");
/// assert_eq!(within(&control, Duration::from_secs(7)), "public, max-age=7, must-revalidate");
/// assert_eq!(within(&control, Duration::from_secs(99)), "public, max-age=60, must-revalidate");
/// ```
pub fn within(control: &HeaderValue, left: Duration) -> HeaderValue {
    let left = left.as_secs();
    let mut directives: Vec<String> = Vec::new();
    let mut has_lifetime = false;
    for directive in control.to_str().unwrap_or("no-store").split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "max-age" | "s-maxage" => {
                has_lifetime |= name.eq_ignore_ascii_case("max-age");
                // A lifetime that is not a number is not shorter than any other.
                let lifetime = value.trim_matches('"').parse().unwrap_or(0).min(left);
                directives.push(format!("{name}={lifetime}"));
            }
            "" | "stale-while-revalidate" | "stale-if-error" | "must-revalidate" | "immutable" => {}
            _ => directives.push(directive.to_owned()),
        }
    }
    if !has_lifetime {
        directives.push(format!("max-age={left}"));
    }
    directives.push("must-revalidate".to_owned());
    HeaderValue::try_from(directives.join(", ")).unwrap_or(HeaderValue::from_static("no-store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_directive_outlives_the_answer() {
        for (control, left, expected) in [
            (
                "public, max-age=5, stale-while-revalidate=10, stale-if-error=60",
                3,
                "public, max-age=3, must-revalidate",
            ),
            ("public, max-age=5, s-maxage=300", 30, "public, max-age=5, s-maxage=30, must-revalidate"),
            ("public, max-age=31536000, immutable", 30, "public, max-age=30, must-revalidate"),
            ("private, no-cache", 30, "private, no-cache, max-age=30, must-revalidate"),
            ("public, Max-Age=\"9\", must-revalidate", 3, "public, Max-Age=3, must-revalidate"),
            ("public, max-age=x", 3, "public, max-age=0, must-revalidate"),
            ("", 3, "max-age=3, must-revalidate"),
        ] {
            assert_eq!(within(&HeaderValue::from_static(control), Duration::from_secs(left)), expected, "{control}");
        }
    }
}
