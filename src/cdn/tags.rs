//! Tags: under which names a shared cache finds the answers that a change makes old. They are the names of the ledger: what an answer
//! carries and what a change purges is made by the same two functions here.
//!
//! An answer carries the tag of every name that it depends on, of everything of each of their patterns (`product:*`), and of all there is (`*`),
//! so that whatever is raised in the ledger has a tag to purge. One whose tags don't fit the header carries none, and may be kept only for as
//! short as any cache may keep it.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    cache::{Label, Name},
    config::{CdnConfig, CdnTags},
};

/// The tag of all answers.
pub(super) const ALL: &str = "*";

/// For how long a shared cache may go on answering while it asks again, and while nobody answers: RFC 5861.
const WINDOWS: &str = "stale-while-revalidate=10, stale-if-error=60";

/// Marks answers for the shared cache.
#[derive(Clone, Debug)]
pub struct Marker {
    form: Form,
    /// How much longer an answer may be kept; `None`: nothing is purged, so no longer than anybody may.
    max_age: Option<Duration>,
}

/// What is known of an answer.
pub struct Answered<'a> {
    /// Its key pattern.
    pub pattern: &'static str,
    /// The names that it depends on.
    pub labels: &'a [Label],
    /// The time since it was last known to be current, as its header `Age` says.
    pub age: Duration,
    /// For how long more it may be answered at most, wherever it is kept: what its maximal age leaves since the database was read.
    pub left: Duration,
}

impl Marker {
    /// Marks as the shared cache wants it.
    pub fn new(config: &CdnConfig) -> Self {
        Self { form: Form::of(config.tags), max_age: config.purge.as_ref().map(|_| config.max_age) }
    }

    /// The headers that carry its tags, and for how long the shared cache may keep the answer.
    pub fn marks(&self, answer: &Answered<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(tags) = self.form.render(&tags_of(answer.pattern, answer.labels)) else { return headers };
        headers.insert(self.form.header.clone(), tags);
        if let Some(longer) = self.max_age {
            // Caches take off what `Age` says.
            let max_age = answer.age.as_secs() + longer.min(answer.left).as_secs();
            let control = HeaderValue::try_from(format!("max-age={max_age}, {WINDOWS}"));
            headers.extend(control.ok().map(|control| (self.form.control.clone(), control)));
        }
        headers
    }
}

/// The tags of an answer.
fn tags_of<'a>(pattern: &str, labels: &'a [Label]) -> BTreeSet<Cow<'a, str>> {
    let patterns: BTreeSet<&str> = labels.iter().map(|label| label.name.pattern()).chain([pattern]).collect();
    let wide = patterns.into_iter().map(everything).map(Cow::Owned);
    labels.iter().map(|label| legal(label.name.tag())).chain(wide).chain([Cow::Borrowed(ALL)]).collect()
}

/// The tag to purge when a name is raised; `None` when no answer that a shared cache may hold depends on it: only those of `patterns` may be
/// held. What is personal is never told.
pub(super) fn purged_by(name: &Name, patterns: &BTreeSet<&str>) -> Option<String> {
    let pattern = name.pattern();
    match name.as_str() {
        ALL => Some(ALL.to_owned()),
        _ if !patterns.contains(pattern) => None,
        // Of a pattern in part: answers carry no tag for each part that somebody might name.
        text if text.ends_with('*') => Some(everything(pattern)),
        _ => Some(legal(name.tag()).into_owned()),
    }
}

fn everything(pattern: &str) -> String {
    format!("{pattern}:*")
}

/// A tag as every header may carry it: names are escaped already, but who raises one by hand may write what he likes.
fn legal(tag: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%*".contains(&byte);
    if tag.bytes().all(plain) {
        return Cow::Borrowed(tag);
    }
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Cow::Owned(tag.bytes().map(escape).collect())
}

/// How a kind of shared cache wants its tags.
#[derive(Clone, Debug)]
struct Form {
    header: HeaderName,
    /// The header that only shared caches heed.
    control: HeaderName,
    separator: &'static str,
    quote: &'static str,
    most: usize,
    longest: usize,
    /// Bytes of the whole header.
    room: usize,
}

impl Form {
    fn of(tags: CdnTags) -> Self {
        let named = HeaderName::from_static;
        let xkey = Self {
            header: named("xkey"),
            control: named("cdn-cache-control"),
            separator: " ",
            quote: "",
            most: usize::MAX,
            longest: 1024,
            // Varnish takes lines of 8 KiB, their names included.
            room: 8 * 1024 - 64,
        };
        match tags {
            CdnTags::Xkey => xkey,
            // What is beyond 16 KiB is ignored.
            CdnTags::SurrogateKey => {
                Self { header: named("surrogate-key"), control: named("surrogate-control"), room: 16 * 1024, ..xkey }
            }
            CdnTags::CacheTag => {
                Self { header: named("cache-tag"), separator: ",", most: 1000, room: 16 * 1024, ..xkey }
            }
            // What every cache that knows the header must be able to take (RFC 9875, section 2).
            CdnTags::CacheGroups => {
                Self { header: named("cache-groups"), separator: ", ", quote: "\"", most: 32, longest: 32, ..xkey }
            }
        }
    }

    /// `None`: they don't fit.
    fn render(&self, tags: &BTreeSet<Cow<'_, str>>) -> Option<HeaderValue> {
        if tags.len() > self.most || tags.iter().any(|tag| tag.len() > self.longest) {
            return None;
        }
        let quoted: Vec<String> = tags.iter().map(|tag| format!("{0}{tag}{0}", self.quote)).collect();
        let text = quoted.join(self.separator);
        if text.len() > self.room {
            return None;
        }
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<Label> {
        names.iter().map(|name| Label { name: Name::from_ledger(name), version: 1 }).collect()
    }

    fn rendered(form: CdnTags, names: &[&str]) -> Option<String> {
        let labels = labels(names);
        Form::of(form).render(&tags_of("product-list", &labels)).map(|value| value.to_str().unwrap().to_owned())
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
        let labels = labels(&["product:42", "product-list:department:DRUG%20GM#3"]);
        let carried = tags_of("product-list", &labels);
        let public = BTreeSet::from(["product", "product-list"]);
        for raised in [
            "product:42",
            "product-list:department:DRUG%20GM#3",
            "product:*",
            "product:4:*",
            "product-list:department:*",
            "*",
        ] {
            let tag = purged_by(&Name::from_ledger(raised), &public).unwrap();
            assert!(carried.contains(tag.as_str()), "{raised} purges {tag}, not one of {carried:?}");
        }
        for personal in ["order:demo:7", "order-list:demo:749", "order:*", "*:demo:*", "order-list:*"] {
            assert_eq!(purged_by(&Name::from_ledger(personal), &public), None, "{personal}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_cut_off() {
        let many: Vec<String> = (0..2_000).map(|id| format!("product:{id}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for form in [CdnTags::Xkey, CdnTags::SurrogateKey, CdnTags::CacheTag, CdnTags::CacheGroups] {
            assert_eq!(rendered(form, &many), None, "{form:?}");
            assert!(rendered(form, &many[..20]).is_some(), "{form:?}");
        }
        let long = format!("product-list:category:{}", "x".repeat(1_100));
        assert_eq!(rendered(CdnTags::Xkey, &[&long]), None);
        assert_eq!(rendered(CdnTags::CacheGroups, &["product-list:category:TROPICAL%20FRUIT"]), None);
    }

    #[test]
    fn what_no_header_may_carry_is_escaped() {
        let raised = Name::from_ledger("product:ä b,\"\r\n");
        let tag = purged_by(&raised, &BTreeSet::from(["product"])).unwrap();
        assert_eq!(tag, "product:%C3%A4%20b%2C%22%0D%0A");
    }
}
