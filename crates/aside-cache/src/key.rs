//! Typed keys. The type of the value is part of the key, so a key can't fetch a value of another
//! type. A key can't be built without saying whose data it identifies: shared data or one tenant's.
//!
//! The text of a key is `pattern[:tenant]:segment:…`. Every segment is escaped, so two different
//! ids never have the same key. The same text is the [`Tag`] under which the ledger counts the
//! changes of the entity.

use std::{fmt, marker::PhantomData, sync::Arc};

use crate::{
    policy::{Cacheable, MAX_AGE_CAP},
    segments::{Segments, join},
};

/// A tenant: 1 to 64 of `a-z 0-9 -`. It is part of every key of tenant data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Parses a tenant's name. Returns `None` if it breaks the rule above.
    ///
    /// ```
    /// use aside_cache::Tenant;
    ///
    /// assert_eq!(Tenant::parse("acme-2").unwrap().as_str(), "acme-2");
    /// assert_eq!(Tenant::parse("Acme Inc."), None);
    /// ```
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
    ///
    /// ```
    /// use aside_cache::{Tag, Tenant};
    ///
    /// let acme = Tenant::parse("acme").unwrap();
    /// assert_eq!(Tag::of_tenant("order", &acme, 7).as_str(), "order:acme:7");
    /// ```
    pub fn of_tenant(pattern: &str, tenant: &Tenant, segments: impl Segments) -> Self {
        Self(join(pattern, Some(tenant), segments))
    }

    /// A wildcard for every tag that begins with these segments, and for the tag of exactly these
    /// segments. `"product"` means all products, `("order", "demo")` the orders of a tenant, and
    /// `()` every tag.
    ///
    /// ```
    /// use aside_cache::Tag;
    ///
    /// assert_eq!(Tag::prefix("product").as_str(), "product:*");
    /// assert_eq!(Tag::prefix(("order", "acme")).as_str(), "order:acme:*");
    /// assert_eq!(Tag::prefix(()).as_str(), "*");
    /// ```
    pub fn prefix(segments: impl Segments) -> Self {
        let joined = join("", None, segments);
        match joined.strip_prefix(':') {
            None => Self("*".into()),
            Some(prefix) => Self(format!("{prefix}:*").into()),
        }
    }

    /// The beginning of the tags that this wildcard matches. It is `None` for a tag of one thing.
    pub(crate) fn wildcard(&self) -> Option<&str> {
        let base = self.0.strip_suffix('*')?;
        Some(base.strip_suffix(':').unwrap_or(base))
    }

    /// All wildcards that match this tag: `*`, `order:*`, `order:demo:*`, `*:demo:*` …
    pub(crate) fn wildcards(&self) -> Vec<Self> {
        let tag = self.unsharded();
        let prefixes = tag.match_indices(':').map(|(end, _)| &tag[..end]).chain([tag]);
        let tenant = tag.split(':').nth(1).map(|tenant| format!("{ANY}{tenant}:*"));
        let texts = prefixes.map(|prefix| format!("{prefix}:*")).chain(tenant).chain(["*".to_owned()]);
        texts.map(|text| Self(text.into())).collect()
    }

    /// Whether the tag is `base` or begins with its segments.
    pub(crate) fn matches(&self, base: &str) -> bool {
        let rest = match base.strip_prefix(ANY) {
            Some(tenant) => self.0.split_once(':').and_then(|(_pattern, rest)| rest.strip_prefix(tenant)),
            None => self.0.strip_prefix(base),
        };
        base.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '#']))
    }

    /// The wildcard of the tag's pattern. A wildcard of everything is returned unchanged.
    pub(crate) fn pattern_wildcard(&self) -> Self {
        if self.0.starts_with('*') { self.clone() } else { Self(format!("{}:*", self.pattern()).into()) }
    }

    /// A wildcard for every tag of a tenant's data, with any pattern.
    pub fn all_of(tenant: &Tenant) -> Self {
        Self(format!("{ANY}{tenant}:*").into())
    }

    /// The tenant in a tag of personal data.
    pub(crate) fn tenant_of(&self) -> Option<Tenant> {
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
    ///
    /// ```
    /// use aside_cache::Tag;
    ///
    /// assert_eq!(Tag::new("product", 42).pattern(), "product");
    /// ```
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
///
/// ```
/// use aside_cache::{ShardedTag, Tag};
///
/// let list = ShardedTag::new(Tag::new("product-list", ()));
/// assert_eq!(list.shard(42).as_str(), "product-list#10");
/// assert_eq!(list.shards().len(), 16);
/// ```
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
    ///
    /// ```
    /// # use aside_cache::{Cacheable, Policy};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Product;
    /// # impl Cacheable for Product {
    /// #     const POLICY: Policy = Policy::public("product", std::time::Duration::from_hours(1));
    /// # }
    /// use aside_cache::Key;
    ///
    /// let key = Key::<Product>::new(42);
    /// assert_eq!(key.as_str(), "product:42");
    /// ```
    pub fn new(segments: impl Segments) -> Self {
        const { assert!(!T::POLICY.sensitivity.is_personal(), "what is personal belongs to a tenant") };
        Self::with_tag(Tag::new(T::POLICY.name, segments), None)
    }

    /// The key of a value that belongs to one tenant.
    ///
    /// ```
    /// # use aside_cache::{Cacheable, Policy};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Order;
    /// # impl Cacheable for Order {
    /// #     const POLICY: Policy = Policy::personal("order", std::time::Duration::from_hours(1));
    /// # }
    /// use aside_cache::{Key, Tenant};
    ///
    /// let acme = Tenant::parse("acme").unwrap();
    /// assert_eq!(Key::<Order>::of_tenant(&acme, 7).as_str(), "order:acme:7");
    /// ```
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

#[cfg(test)]
mod tests;
