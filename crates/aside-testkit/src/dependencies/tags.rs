//! Which tag a raised version covers, as in the cache's own rule for wildcards.

/// Whether a raised tag or wildcard makes answers stale that depend on `tag`.
pub(super) fn covers(raised: &str, tag: &str) -> bool {
    let Some(base) = raised.strip_suffix('*') else { return raised == tag };
    let base = base.strip_suffix(':').unwrap_or(base);
    let rest = match base.strip_prefix("*:") {
        Some(tenant) => tag.split_once(':').and_then(|(_pattern, rest)| rest.strip_prefix(tenant)),
        None => tag.strip_prefix(base),
    };
    base.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '#']))
}

/// The tags of an answer that a change of these values would raise by its columns. They are those of
/// which each segment is one of the values, or all tags if there is none.
pub(super) fn expected(tags: &[String], values: &[String]) -> Vec<String> {
    let is_made_of_values = |tag: &&String| {
        let mut segments = tag.split('#').next().unwrap_or_default().split(':').skip(1).map(unescape).peekable();
        segments.peek().is_some() && segments.all(|segment| values.contains(&segment))
    };
    let likely: Vec<String> = tags.iter().filter(is_made_of_values).cloned().collect();
    if likely.is_empty() { tags.to_vec() } else { likely }
}

/// The value of an escaped segment.
fn unescape(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_the_tags_that_begin_with_its_segments() {
        for (raised, tag, expected) in [
            ("product:1", "product:1", true),
            ("product:1", "product:12", false),
            ("*", "product:1", true),
            ("product:*", "product:1", true),
            ("product:*", "product-list#3", false),
            ("product-list:*", "product-list#3", true),
            ("product-list:*", "product-list:category:A", true),
            ("order:demo:*", "order:demo:7", true),
            ("order:demo:*", "order:demos:7", false),
            ("*:demo:*", "order:demo:7", true),
            ("*:demo:*", "order:acme:7", false),
        ] {
            assert_eq!(covers(raised, tag), expected, "{raised} {tag}");
        }
    }

    #[test]
    fn the_expected_tag_is_the_one_that_the_changed_row_names() {
        let tags = ["product:1", "product:2", "product-list:category:C%20D"].map(String::from);
        let values = ["1", "category", "C D"].map(String::from);
        assert_eq!(expected(&tags, &values), ["product:1", "product-list:category:C%20D"]);
        assert_eq!(expected(&tags, &[]), tags);
    }
}
