//! Proactive negotiation (RFC 9110, section 12.5). It chooses the representation that the client
//! prefers by its weights.

use axum::http::{HeaderMap, HeaderName, header};

/// A weight in thousandths. 0 means not acceptable.
type Weight = u16;

/// Returns the media type that the client prefers. If several have the same weight, or none is
/// acceptable, it returns the first one.
pub fn media_type<'a>(headers: &HeaderMap, offered: &[&'a str]) -> &'a str {
    let ranges = members(headers, &header::ACCEPT);
    let weight = |offered: &str| match ranges.is_empty() {
        true => 1000,
        false => weight_of(&ranges, &[offered, &format!("{}/*", offered.split('/').next().unwrap_or_default()), "*/*"]),
    };
    let best = offered.iter().map(|offered| weight(offered)).max().unwrap_or_default();
    offered.iter().find(|offered| weight(offered) == best).copied().unwrap_or_default()
}

/// Returns whether the client accepts gzip and does not prefer plain bytes.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = members(headers, &header::ACCEPT_ENCODING);
    let gzip = weight_of(&codings, &["gzip", "x-gzip", "*"]);
    // Plain bytes are acceptable when they are not listed, but then the client did not ask for
    // them.
    gzip > 0 && gzip >= weight_of(&codings, &["identity"])
}

/// The weight of the most specific listed name among these.
fn weight_of(members: &[(String, Weight)], names: &[&str]) -> Weight {
    let listed = |name: &&str| members.iter().find(|(member, _)| member.eq_ignore_ascii_case(name));
    names.iter().find_map(listed).map_or(0, |(_, weight)| *weight)
}

/// The members of a list header with their weights. Parameters of media types are ignored.
fn members(headers: &HeaderMap, name: &HeaderName) -> Vec<(String, Weight)> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let members = lines.flat_map(|line| line.split(',')).filter_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((name.to_owned(), weight.map_or(Some(1000), thousandths)?))
    });
    members.collect()
}

/// Parses `0`, `0.5` or `1.000`; `None` for any other text.
fn thousandths(text: &str) -> Option<Weight> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let part: Weight = format!("{part:0<3}").parse().ok().filter(|_| digits)?;
    match whole {
        "0" => Some(part),
        "1" => (part == 0).then_some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_and_then_the_order_of_what_there_is() {
        let cases: [(&[&str], &str); 12] = [
            (&[], "application/json"),
            (&["*/*"], "application/json"),
            (&["text/html"], "text/html"),
            (&["text/html;q=0.1, application/json"], "application/json"),
            (&["text/html, application/json;q=0.9"], "text/html"),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], "text/html"),
            (&["text/*;q=0.5, */*;q=0.1"], "text/html"),
            (&["application/json;q=0, */*;q=0.1"], "text/html"),
            (&["text/html;q=0", "*/*"], "application/json"),
            (&["TEXT/HTML;charset=utf-8;Q=0.7", "application/json;q=0.6"], "text/html"),
            (&["image/png"], "application/json"),
            (&["text/html;q=7, application/json;q=0.001"], "application/json"),
        ];
        for (accept, expected) in cases {
            let headers = accept.iter().map(|value| (header::ACCEPT, value.parse().unwrap())).collect();
            assert_eq!(media_type(&headers, &["application/json", "text/html"]), expected, "{accept:?}");
        }
    }

    #[test]
    fn gzip_is_sent_to_those_who_like_it() {
        let cases = [
            ("", false),
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("gzip;q=0", false),
            ("br", false),
            ("*", true),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
            ("identity, gzip;q=0.5", false),
            ("identity;q=0.5, gzip", true),
            ("X-GZIP", true),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
    }
}
