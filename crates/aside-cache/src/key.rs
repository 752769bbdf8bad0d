//! Typed keys. The type of the value is part of the key, so a key can't fetch a value of another
//! type. A key can't be built without saying whose data it identifies: shared data or one tenant's.
//!
//! The text of a key is `pattern[:tenant]:segment:…`. Every segment is escaped, so two different
//! ids never have the same key. The same text is the [`Tag`] under which the ledger counts the
//! changes of the entity.

use std::{cell::RefCell, fmt, marker::PhantomData, sync::Arc};

use super::policy::{Cacheable, MAX_AGE_CAP};

/// A tenant: 1 to 64 of `a-z 0-9 -`. It is part of every key of tenant data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Parses a tenant's name. Returns `None` if it breaks the rule above.
    pub fn parse(name: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=64).contains(&name.len()) && name.chars().all(allowed);
        valid.then(|| Self(name.into()))
    }

    /// The tenant's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pattern of a wildcard that matches a tenant's tags of every pattern. No real pattern has
/// this name.
const ANY: &str = "*:";

/// A tag in the ledger, for an entity (`product:42`) or a list (`order-list:demo:749`). A write
/// raises its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// A tag of shared data.
    ///
    /// ```
    /// use aside_cache::Tag;
    ///
    /// assert_eq!(Tag::new("product-list", ("category", "TROPICAL FRUIT")).as_str(), "product-list:category:TROPICAL%20FRUIT");
    /// ```
    pub fn new(pattern: &str, segments: impl Segments) -> Self {
        Self(join(pattern, None, segments))
    }

    /// A tag of one tenant's data.
    pub fn of_tenant(pattern: &str, tenant: &Tenant, segments: impl Segments) -> Self {
        Self(join(pattern, Some(tenant), segments))
    }

    /// A wildcard for every tag that begins with these segments, and for the tag of exactly these
    /// segments. `"product"` means all products, `("order", "demo")` the orders of a tenant, and
    /// `()` every tag.
    pub fn prefix(segments: impl Segments) -> Self {
        let joined = join("", None, segments);
        match joined.strip_prefix(':') {
            None => Self("*".into()),
            Some(prefix) => Self(format!("{prefix}:*").into()),
        }
    }

    /// The beginning of the tags that this wildcard matches. It is `None` for a tag of one thing.
    pub(super) fn wildcard(&self) -> Option<&str> {
        let base = self.0.strip_suffix('*')?;
        Some(base.strip_suffix(':').unwrap_or(base))
    }

    /// All wildcards that match this tag: `*`, `order:*`, `order:demo:*`, `*:demo:*` …
    pub(super) fn wildcards(&self) -> Vec<Self> {
        let tag = self.unsharded();
        let prefixes = tag.match_indices(':').map(|(end, _)| &tag[..end]).chain([tag]);
        let tenant = tag.split(':').nth(1).map(|tenant| format!("{ANY}{tenant}:*"));
        let texts = prefixes.map(|prefix| format!("{prefix}:*")).chain(tenant).chain(["*".to_owned()]);
        texts.map(|text| Self(text.into())).collect()
    }

    /// Whether the tag is `base` or begins with its segments.
    pub(super) fn matches(&self, base: &str) -> bool {
        let rest = match base.strip_prefix(ANY) {
            Some(tenant) => self.0.split_once(':').and_then(|(_pattern, rest)| rest.strip_prefix(tenant)),
            None => self.0.strip_prefix(base),
        };
        base.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '#']))
    }

    /// The wildcard of the tag's pattern. A wildcard of everything is returned unchanged.
    pub(super) fn pattern_wildcard(&self) -> Self {
        if self.0.starts_with('*') { self.clone() } else { Self(format!("{}:*", self.pattern()).into()) }
    }

    /// A wildcard for every tag of a tenant's data, with any pattern.
    pub fn all_of(tenant: &Tenant) -> Self {
        Self(format!("{ANY}{tenant}:*").into())
    }

    /// The tenant in a tag of personal data.
    pub(super) fn tenant_of(&self) -> Option<Tenant> {
        Tenant::parse(self.0.split(':').nth(1)?)
    }

    /// Makes a tag of its text in the ledger.
    pub fn from_ledger(text: &str) -> Self {
        Self(text.into())
    }

    /// The text stored in the ledger.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of which this one is a shard. A tag without shards returns its own text.
    pub fn unsharded(&self) -> &str {
        self.0.split('#').next().unwrap_or_default()
    }

    /// The key pattern of the tag: `product` of `product:42`, `product-list` of `product-list#7`.
    pub fn pattern(&self) -> &str {
        self.0.split([':', '#']).next().unwrap_or_default()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag that is raised by writes of many different things. A write locks the row that it raises
/// until its commit. With one row, all these writes would wait for each other. This tag has several
/// rows, `tag#0` to `tag#15`, and a write raises one of them. An answer that depends on the tag
/// carries the versions of all rows.
#[derive(Clone, Debug)]
pub struct ShardedTag(Tag);

impl ShardedTag {
    /// The number of rows.
    pub const SHARDS: i64 = 16;

    /// Makes a sharded tag.
    pub fn new(tag: Tag) -> Self {
        Self(tag)
    }

    /// The tag that a write of the thing with this id raises.
    pub fn shard(&self, id: i64) -> Tag {
        Tag(format!("{}#{}", self.0, id.rem_euclid(Self::SHARDS)).into())
    }

    /// The tags of all rows.
    pub fn shards(&self) -> Vec<Tag> {
        (0..Self::SHARDS).map(|row| self.shard(row)).collect()
    }
}

/// The key of one cached value of type `T`.
pub struct Key<T> {
    tag: Tag,
    tenant: Option<Tenant>,
    value: PhantomData<fn() -> T>,
}

impl<T: Cacheable> Key<T> {
    /// The key of a value that every client may read. A personal type has no such key, and the call
    /// does not compile.
    pub fn new(segments: impl Segments) -> Self {
        const { assert!(!T::POLICY.sensitivity.is_personal(), "what is personal belongs to a tenant") };
        Self::with_tag(Tag::new(T::POLICY.name, segments), None)
    }

    /// The key of a value that belongs to one tenant.
    pub fn of_tenant(tenant: &Tenant, segments: impl Segments) -> Self {
        Self::with_tag(Tag::of_tenant(T::POLICY.name, tenant, segments), Some(tenant.clone()))
    }

    fn with_tag(tag: Tag, tenant: Option<Tenant>) -> Self {
        const { assert!(T::POLICY.max_age.as_nanos() <= MAX_AGE_CAP.as_nanos(), "max_age above MAX_AGE_CAP") };
        Self { tag, tenant, value: PhantomData }
    }
}

impl<T> Key<T> {
    /// The tag under which the ledger counts the changes of this entity.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// The tenant whose value it is. It is `None` for shared data.
    pub fn tenant_of(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The text of the key, without the namespace that L2 puts before it.
    pub fn as_str(&self) -> &str {
        self.tag.as_str()
    }
}

impl<T> From<Key<T>> for Tag {
    fn from(key: Key<T>) -> Self {
        key.tag
    }
}

impl<T> From<&Key<T>> for Tag {
    fn from(key: &Key<T>) -> Self {
        key.tag.clone()
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        Self { tag: self.tag.clone(), tenant: self.tenant.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.tag)
    }
}

/// The segments of a key or a tag after its pattern: nothing, one value, or a tuple of values. Each
/// value becomes one segment, escaped where needed.
pub trait Segments {
    /// Calls `add` with each segment.
    fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display));
}

impl<S: Segments + ?Sized> Segments for &S {
    fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
        (**self).each(add);
    }
}

macro_rules! one_segment {
    ($($type:ty),*) => {
        $(impl Segments for $type {
            fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
                add(&self);
            }
        })*
    };
}

one_segment!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, bool, char, str, String, uuid::Uuid);

macro_rules! many_segments {
    ($($name:ident),*) => {
        impl<$($name: Segments),*> Segments for ($($name,)*) {
            #[allow(non_snake_case, unused_variables)]
            fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
                let ($($name,)*) = self;
                $($name.each(add);)*
            }
        }
    };
}

impl<S: Segments> Segments for [S] {
    fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
        self.iter().for_each(|segment| segment.each(add));
    }
}

many_segments!();
many_segments!(A);
many_segments!(A, B);
many_segments!(A, B, C);
many_segments!(A, B, C, D);
many_segments!(A, B, C, D, E);

fn join(pattern: &str, tenant: Option<&Tenant>, segments: impl Segments) -> Arc<str> {
    use fmt::Write;
    thread_local! {
        /// A buffer in which the text of a tag is built. A new tag then allocates only its own
        /// text.
        static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
    }
    // The buffer is taken out, because a segment's `Display` could build a tag too.
    let mut text = TEXT.take();
    text.push_str(pattern);
    if let Some(tenant) = tenant {
        text.push(':');
        text.push_str(tenant.as_str());
    }
    segments.each(&mut |segment| {
        text.push(':');
        // Writing to a `String` does not fail.
        let _ = write!(Escaped(&mut text), "{segment}");
    });
    let joined = text.as_str().into();
    text.clear();
    TEXT.set(text);
    joined
}

/// Whether a text is a segment in the spelling of keys. Each segment has only one spelling.
pub fn is_segment(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        plain.push(match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => (16 * high + low) as u8,
                _ => return false,
            },
            byte => byte,
        });
    }
    !text.is_empty()
        && String::from_utf8(plain).is_ok_and(|plain| *join("", None, plain.as_str()) == *format!(":{text}"))
}

/// Percent-escapes everything but letters, digits, `-`, `.` and `_` in the text of a key.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if part.as_bytes().iter().all(plain) {
            self.0.push_str(part);
            return Ok(());
        }
        for byte in part.bytes() {
            if plain(&byte) {
                self.0.push(byte as char);
            } else {
                write!(self.0, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn different_segments_never_meet_in_one_name(a in prop::collection::vec(".{0,8}", 1..4), b in prop::collection::vec(".{0,8}", 1..4)) {
            let name = |segments: &[String]| Tag::new("product", segments);
            prop_assert_eq!(a == b, name(&a) == name(&b));
        }
    }

    #[test]
    fn a_wildcard_covers_whole_segments_only() {
        let covers = |wildcard: Tag, name: &str| Tag::from_ledger(name).matches(wildcard.wildcard().unwrap());
        let tenant = Tag::prefix(("order", "demo"));
        assert_eq!(tenant.as_str(), "order:demo:*");
        assert!(covers(tenant.clone(), "order:demo:7") && !covers(tenant.clone(), "order:demo2:7"));
        assert!(!covers(tenant, "order-list:demo:7"));
        assert!(covers(Tag::prefix("product-list"), "product-list"));
        assert!(covers(Tag::prefix(()), "anything"));
        let demo = Tag::all_of(&Tenant::parse("demo").unwrap());
        assert!(covers(demo.clone(), "order:demo:7") && covers(demo.clone(), "order-list:demo:749"));
        assert!(
            !covers(demo.clone(), "order:demo2:7") && !covers(demo.clone(), "order:acme:demo") && !covers(demo, "demo")
        );
        assert_eq!(Tag::new("product", "*").wildcard(), None, "an id can't be a wildcard: it is escaped");
    }

    #[test]
    fn the_wildcards_of_a_name_are_those_that_cover_it() {
        let all = |name: &str| Tag::from_ledger(name).wildcards().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(all("order:demo:7"), ["order:*", "order:demo:*", "order:demo:7:*", "*:demo:*", "*"]);
        assert_eq!(all("product-list#7"), ["product-list:*", "*"]);
        for name in ["order:demo:7", "product-list#7", "product:42", "product-list:department:DRUG%20GM#3"] {
            let name = Tag::from_ledger(name);
            assert!(name.wildcards().iter().all(|one| name.matches(one.wildcard().unwrap())), "{name}");
        }
    }

    #[test]
    fn tenants_are_short_and_plain() {
        assert!(Tenant::parse("demo-2").is_some());
        for wrong in ["", "Demo", "a:b", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(Tenant::parse(wrong), None, "{wrong}");
        }
    }
}
