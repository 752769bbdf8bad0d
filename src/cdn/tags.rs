//! Surrogate keys: the tags by which a shared cache finds the answers that a change invalidates.
//! They are the tags of the ledger. The same two functions in this file create the tags of an
//! answer and the tags of a purge.
//!
//! An answer carries every tag on which it depends, a tag for each of their types (`product:*`),
//! and the tag of all answers (`*`). Every invalidation in the ledger thus has a tag to purge. If
//! the tags do not fit into the header, the answer carries none. The shared cache may then store it
//! only as briefly as any other cache.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use aside_cache::{Tag, TagVersion};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{CdnConfig, CdnTags};

/// The tag of all answers.
pub(super) const ALL: &str = "*";

/// How long a shared cache may serve an answer while it revalidates, and while the service is down
/// (RFC 5861).
const WINDOWS: &str = "stale-while-revalidate=10, stale-if-error=60";

/// Adds surrogate keys and lifetimes to answers for the shared cache.
#[derive(Clone, Debug)]
pub struct SurrogateKeys {
    format: HeaderFormat,
    /// The additional lifetime in the shared cache. It is `None` if nothing is purged, so that the
    /// shared cache has the same lifetime as any other cache.
    max_age: Option<Duration>,
}

/// The properties of an answer that its headers need.
pub struct Tagged<'a> {
    /// The type's name.
    pub pattern: &'static str,
    /// The tags on which it depends, with their versions.
    pub tag_versions: &'a [TagVersion],
    /// The time since the answer was last known to be current, as in its header `Age`.
    pub age: Duration,
    /// The longest time for which any cache may still serve it: the rest of its maximum age since
    /// the database was read.
    pub left: Duration,
    /// Whether the answer has an end, after which it must not be served stale either.
    pub has_end: bool,
}

impl SurrogateKeys {
    /// Uses the header format of the configured shared cache.
    pub fn new(config: &CdnConfig) -> Self {
        Self { format: HeaderFormat::of(config.tags), max_age: config.purge.as_ref().map(|_| config.max_age) }
    }

    /// The headers with the answer's tags and its lifetime in the shared cache.
    pub fn headers(&self, answer: &Tagged<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(tags) = self.format.render(&tags_of(answer.pattern, answer.tag_versions)) else { return headers };
        headers.insert(self.format.header.clone(), tags);
        if let Some(longer) = self.max_age {
            // Caches subtract `Age` from the lifetime.
            let max_age = answer.age.as_secs() + longer.min(answer.left).as_secs();
            let windows = if answer.has_end { "must-revalidate" } else { WINDOWS };
            let control = HeaderValue::try_from(format!("max-age={max_age}, {windows}"));
            headers.extend(control.ok().map(|control| (self.format.control.clone(), control)));
        }
        headers
    }
}

/// The tags of an answer.
fn tags_of<'a>(pattern: &str, tag_versions: &'a [TagVersion]) -> BTreeSet<Cow<'a, str>> {
    let patterns: BTreeSet<&str> =
        tag_versions.iter().map(|tag_version| tag_version.tag.pattern()).chain([pattern]).collect();
    let wide = patterns.into_iter().map(everything).map(Cow::Owned);
    tag_versions
        .iter()
        .map(|tag_version| legal(tag_version.tag.unsharded()))
        .chain(wide)
        .chain([Cow::Borrowed(ALL)])
        .collect()
}

/// The tag to purge when `name` is invalidated. It is `None` if no answer in a shared cache depends
/// on it, because only answers of `patterns` may be stored there. Personal tags are never sent.
pub(super) fn purged_by(name: &Tag, patterns: &BTreeSet<&str>) -> Option<String> {
    let pattern = name.pattern();
    match name.as_str() {
        ALL => Some(ALL.to_owned()),
        _ if !patterns.contains(pattern) => None,
        // A prefix purges the whole type, because answers carry no tag for each possible prefix.
        text if text.ends_with('*') => Some(everything(pattern)),
        _ => Some(legal(name.unsharded()).into_owned()),
    }
}

fn everything(pattern: &str) -> String {
    format!("{pattern}:*")
}

/// Escapes a tag for all headers. Tags are already escaped, but an operator may invalidate any text
/// by hand.
fn legal(tag: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%*".contains(&byte);
    if tag.bytes().all(plain) {
        return Cow::Borrowed(tag);
    }
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Cow::Owned(tag.bytes().map(escape).collect())
}

/// The header format of one kind of shared cache.
#[derive(Clone, Debug)]
struct HeaderFormat {
    header: HeaderName,
    /// The header that only shared caches evaluate.
    control: HeaderName,
    separator: &'static str,
    quote: &'static str,
    max_tags: usize,
    max_tag_bytes: usize,
    /// The maximum bytes of the header.
    max_bytes: usize,
}

impl HeaderFormat {
    fn of(tags: CdnTags) -> Self {
        let named = HeaderName::from_static;
        let xkey = Self {
            header: named("xkey"),
            control: named("cdn-cache-control"),
            separator: " ",
            quote: "",
            max_tags: usize::MAX,
            max_tag_bytes: 1024,
            // Varnish accepts lines of 8 KiB, including the header's name.
            max_bytes: 8 * 1024 - 64,
        };
        match tags {
            CdnTags::Xkey => xkey,
            // Bytes beyond 16 KiB are ignored.
            CdnTags::SurrogateKey => Self {
                header: named("surrogate-key"),
                control: named("surrogate-control"),
                max_bytes: 16 * 1024,
                ..xkey
            },
            CdnTags::CacheTag => {
                Self { header: named("cache-tag"), separator: ",", max_tags: 1000, max_bytes: 16 * 1024, ..xkey }
            }
            // The limits that every cache with support for the header must accept (RFC 9875,
            // section 2).
            CdnTags::CacheGroups => Self {
                header: named("cache-groups"),
                separator: ", ",
                quote: "\"",
                max_tags: 32,
                max_tag_bytes: 32,
                ..xkey
            },
        }
    }

    /// Renders the header; `None` if the tags do not fit.
    fn render(&self, tags: &BTreeSet<Cow<'_, str>>) -> Option<HeaderValue> {
        if tags.len() > self.max_tags || tags.iter().any(|tag| tag.len() > self.max_tag_bytes) {
            return None;
        }
        let quoted: Vec<String> = tags.iter().map(|tag| format!("{0}{tag}{0}", self.quote)).collect();
        let text = quoted.join(self.separator);
        if text.len() > self.max_bytes {
            return None;
        }
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag_versions(names: &[&str]) -> Vec<TagVersion> {
        names.iter().map(|name| TagVersion { tag: Tag::from_ledger(name), version: 1 }).collect()
    }

    fn rendered(format: CdnTags, names: &[&str]) -> Option<String> {
        let tag_versions = tag_versions(names);
        HeaderFormat::of(format)
            .render(&tags_of("product-list", &tag_versions))
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn every_form_names_what_the_answer_depends_on() {
        let names = ["product:42", "product-list#0", "product-list#15"];
        assert_eq!(rendered(CdnTags::Xkey, &names).unwrap(), "* product-list product-list:* product:* product:42");
        assert_eq!(rendered(CdnTags::SurrogateKey, &names), rendered(CdnTags::Xkey, &names));
        assert_eq!(rendered(CdnTags::CacheTag, &names).unwrap(), "*,product-list,product-list:*,product:*,product:42");
        let groups = "\"*\", \"product-list\", \"product-list:*\", \"product:*\", \"product:42\"";
        assert_eq!(rendered(CdnTags::CacheGroups, &names).unwrap(), groups);
    }

    #[test]
    fn what_is_raised_has_a_tag_that_the_answer_carries() {
        let tag_versions = tag_versions(&["product:42", "product-list:department:DRUG%20GM#3"]);
        let carried = tags_of("product-list", &tag_versions);
        let public = BTreeSet::from(["product", "product-list"]);
        for raised in [
            "product:42",
            "product-list:department:DRUG%20GM#3",
            "product:*",
            "product:4:*",
            "product-list:department:*",
            "*",
        ] {
            let tag = purged_by(&Tag::from_ledger(raised), &public).unwrap();
            assert!(carried.contains(tag.as_str()), "{raised} purges {tag}, not one of {carried:?}");
        }
        for personal in ["order:demo:7", "order-list:demo:749", "order:*", "*:demo:*", "order-list:*"] {
            assert_eq!(purged_by(&Tag::from_ledger(personal), &public), None, "{personal}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_cut_off() {
        let many: Vec<String> = (0..2_000).map(|id| format!("product:{id}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for format in [CdnTags::Xkey, CdnTags::SurrogateKey, CdnTags::CacheTag, CdnTags::CacheGroups] {
            assert_eq!(rendered(format, &many), None, "{format:?}");
            assert!(rendered(format, &many[..20]).is_some(), "{format:?}");
        }
        let long = format!("product-list:category:{}", "x".repeat(1_100));
        assert_eq!(rendered(CdnTags::Xkey, &[&long]), None);
        assert_eq!(rendered(CdnTags::CacheGroups, &["product-list:category:TROPICAL%20FRUIT"]), None);
    }

    #[test]
    fn what_no_header_may_carry_is_escaped() {
        let raised = Tag::from_ledger("product:ä b,\"\r\n");
        let tag = purged_by(&raised, &BTreeSet::from(["product"])).unwrap();
        assert_eq!(tag, "product:%C3%A4%20b%2C%22%0D%0A");
    }
}
