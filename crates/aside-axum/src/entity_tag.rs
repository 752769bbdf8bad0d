//! Entity tags (RFC 9110, section 8.8.3): those of answers, and those that clients send back.
//!
//! An entity tag is `"{version}-{digest}"`, or `"{digest}"` for lists. The digest covers the bytes
//! of the body, so the tag is strong. It changes with every byte, also when a deployment changes
//! the format of the JSON.

use axum::http::HeaderValue;

use super::text::Text;

/// The entity tag of a representation.
///
/// ```
/// use aside_axum::EntityTag;
///
/// assert_eq!(EntityTag::new(Some(7), 0xab).header(), "\"7-00000000000000ab\"");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    version: Option<i64>,
    digest: u64,
}

impl EntityTag {
    /// The tag of a representation whose bytes have this digest. `version` is the version of the
    /// row. Lists have none.
    pub const fn new(version: Option<i64>, digest: u64) -> Self {
        Self { version, digest }
    }

    /// The tag of these bytes.
    pub fn of(version: Option<i64>, body: &[u8]) -> Self {
        Self::new(version, aside_cache::digest(body))
    }

    /// Formats the tag between two quote marks.
    fn between(&self, mark: &str) -> Text {
        let mut text = Text::default();
        text.put(mark);
        if let Some(version) = self.version {
            text.number(version).put("-");
        }
        text.hex(self.digest).put(mark);
        text
    }

    /// The tag without its quotes.
    fn opaque(&self) -> Text {
        self.between("")
    }

    /// Whether `If-Match` with these tags names the representation. Only the version is compared,
    /// if there is one. The comparison is strong: a weak tag never matches.
    pub(crate) fn is_current_in(&self, given: &[ClientTag]) -> bool {
        let opaque = self.opaque();
        given.iter().filter(|given| !given.weak).any(|given| match self.version {
            Some(_) => given.version() == self.version,
            None => given.opaque == opaque.as_str(),
        })
    }

    /// Whether `If-None-Match` with these tags names the representation. The comparison is weak:
    /// `W/` makes no difference.
    pub(crate) fn is_named_in(&self, given: &[ClientTag]) -> bool {
        let opaque = self.opaque();
        given.iter().any(|given| given.opaque == opaque.as_str())
    }

    /// The tag as the value of `ETag`.
    pub fn header(&self) -> HeaderValue {
        self.between("\"").value()
    }
}

/// An entity tag that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientTag {
    pub(crate) weak: bool,
    pub(crate) opaque: String,
}

impl ClientTag {
    /// The version in the tag, which may also be the whole tag: `"3"`. A client that has only the
    /// body knows no more. `None` for any other tag that this service did not generate.
    pub(crate) fn version(&self) -> Option<i64> {
        let version = match self.opaque.split_once('-') {
            Some((version, digest)) => (digest.len() == 16).then_some(version)?,
            None => &self.opaque,
        };
        version.parse().ok().filter(|number: &i64| number.to_string() == version)
    }
}

/// Parses a list of `[W/]"opaque"` separated by commas. Empty members are allowed (RFC 9110,
/// 5.6.1).
pub(crate) fn parse_tags(text: &str, tags: &mut Vec<ClientTag>) -> Result<(), ()> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(());
        }
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"').and_then(|open| open.split_once('"')).ok_or(())?;
        if opaque.contains([' ', '\t']) {
            return Err(());
        }
        tags.push(ClientTag { weak, opaque: opaque.to_owned() });
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: EntityTag = EntityTag::new(Some(7), 0xab);
    const LIST: EntityTag = EntityTag::new(None, 0xab);

    #[test]
    fn a_tag_is_version_and_digest_of_fixed_width() {
        assert_eq!(PRODUCT.header(), "\"7-00000000000000ab\"");
        assert_eq!(LIST.header(), "\"00000000000000ab\"");
    }
}
