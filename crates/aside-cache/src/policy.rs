//! A policy for each data type, declared once beside the type. Its name and its lifetime are
//! arguments, so neither can be forgotten.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

/// The longest lifetime in L1. After it, an entry is refreshed. L1 may retain it for longer, to
/// serve it during the refresh.
pub const L1_LIFETIME_CAP: Duration = Duration::from_secs(60);

/// The highest maximum age that a policy may have. Floors and rows of the ledger are retained for
/// as long as the highest maximum age of all policies of a cache, and for an hour at least. So an
/// old answer can't outlive the floor of the change that made it stale. [`Key`](crate::Key) checks
/// the limit at compile time.
pub const MAX_AGE_CAP: Duration = Duration::from_hours(24);

/// A type whose values may be cached, with the rules that apply to all of them.
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The caching rules of the type.
    const POLICY: Policy;
}

/// A type of which lists are cached too. A list is a `Vec` of it.
///
/// ```
/// use std::time::Duration;
/// use aside_cache::{Cacheable, Key, Listed, Policy};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Product {
///     id: i64,
/// }
///
/// impl Cacheable for Product {
///     const POLICY: Policy = Policy::public("product", Duration::from_hours(1));
/// }
///
/// impl Listed for Product {
///     const LIST: Policy = Self::POLICY.named("product-list");
/// }
///
/// let key: Key<Vec<Product>> = Key::new(("category", "tea"));
/// assert_eq!(key.as_str(), "product-list:category:tea");
/// ```
pub trait Listed: Cacheable {
    /// The caching rules of the lists.
    const LIST: Policy;
}

impl<T: Listed> Cacheable for Vec<T> {
    const POLICY: Policy = T::LIST;
}

/// How long, where and in which form the values of one type are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The key pattern. It is the first segment of every key of the type, and the label of its
    /// metrics.
    #[serde(rename = "pattern")]
    pub name: &'static str,
    /// Lifetime in L1 (in process). Values above [`L1_LIFETIME_CAP`] are cut to it.
    #[serde(rename = "l1_seconds", serialize_with = "seconds")]
    pub l1_ttl: Duration,
    /// Lifetime in L2, before jitter.
    #[serde(rename = "l2_seconds", serialize_with = "seconds")]
    pub l2_ttl: Duration,
    /// Lifetime, in both tiers, of the fact that the database has no such value.
    #[serde(rename = "absent_seconds", serialize_with = "seconds")]
    pub negative_ttl: Duration,
    /// Maximum age by the database's clock, at most [`MAX_AGE_CAP`]. An older value is never served
    /// from any tier.
    #[serde(rename = "max_age_seconds", serialize_with = "seconds")]
    pub max_age: Duration,
    /// How far beyond its maximum age a value may be served, flagged, while the database is down. 0
    /// means never.
    #[serde(rename = "stale_if_error_seconds", serialize_with = "seconds")]
    pub stale_if_error: Duration,
    /// The largest random part, in percent, by which lifetimes are shortened. Entries that were
    /// stored together then don't expire together.
    pub jitter_percent: u8,
    /// Form of the payload in L2.
    pub format: Format,
    /// The version of the values' stored form, which is part of their keys in L2. Change it with a
    /// change of the type that other releases would misread. Releases that run side by side then
    /// share only entries that both understand.
    #[serde(rename = "shape")]
    pub schema_version: &'static str,
    /// Payloads of at least this many bytes are compressed (LZ4) in L2.
    pub compress_above: usize,
    /// The sensitivity of the values.
    pub sensitivity: Sensitivity,
    /// The regions and tiers that may store the values.
    pub residency: Residency,
    /// The fields of the JSON whose values may change although no tag rises, such as view counts.
    /// The comparison of loaded with cached values leaves them out.
    pub volatile: &'static [&'static str],
}

/// The default of [`Policy::negative_ttl`], unless the lifetime is shorter.
const NEGATIVE_TTL: Duration = Duration::from_secs(30);

impl Policy {
    /// A policy for values that every client may read. `ttl` is the lifetime in L2 and the maximum
    /// age; L1 refreshes an entry after a minute at the latest.
    ///
    /// The other rules have defaults: an absence is cached for 30 seconds, lifetimes are shortened
    /// by up to 10 % at random, no value is served stale, and L2 stores JSON that is compressed
    /// from 1 KiB on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use aside_cache::Policy;
    ///
    /// const POLICY: Policy =
    ///     Policy::public("product", Duration::from_hours(1)).stale_if_error(Duration::from_hours(1));
    /// assert_eq!(POLICY.l1_ttl, Duration::from_mins(1));
    /// ```
    pub const fn public(name: &'static str, ttl: Duration) -> Self {
        Self {
            name,
            l1_ttl: shorter(ttl, L1_LIFETIME_CAP),
            l2_ttl: ttl,
            negative_ttl: shorter(ttl, NEGATIVE_TTL),
            max_age: ttl,
            stale_if_error: Duration::ZERO,
            jitter_percent: 10,
            format: Format::Json,
            schema_version: "1",
            compress_above: 1024,
            sensitivity: Sensitivity::Public,
            residency: Residency::Shared,
            volatile: &[],
        }
    }

    /// A policy for values that belong to a tenant. They are sealed in L2, and stored only in the
    /// tenant's home region. The other rules are those of [`Policy::public`].
    ///
    /// ```
    /// use aside_cache::{Policy, Sensitivity};
    /// use std::time::Duration;
    ///
    /// const POLICY: Policy = Policy::personal("order", Duration::from_mins(10));
    /// assert!(POLICY.sensitivity.is_personal());
    /// assert_ne!(POLICY.sensitivity, Sensitivity::Regulated);
    /// ```
    pub const fn personal(name: &'static str, ttl: Duration) -> Self {
        let (sensitivity, residency) = (Sensitivity::Personal, Residency::Regional(OutOfRegion::NoStore));
        Self { sensitivity, residency, ..Self::public(name, ttl) }
    }

    /// As [`Policy::personal`], and each access is recorded by the service's
    /// [`Recorder`](crate::Recorder), without which the cache does not start.
    pub const fn regulated(name: &'static str, ttl: Duration) -> Self {
        Self { sensitivity: Sensitivity::Regulated, ..Self::personal(name, ttl) }
    }

    /// The same rules for another type.
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Sets the lifetime in L1, at most [`L1_LIFETIME_CAP`].
    pub const fn l1_ttl(self, l1_ttl: Duration) -> Self {
        Self { l1_ttl: shorter(l1_ttl, L1_LIFETIME_CAP), ..self }
    }

    /// Sets the lifetime of a known absence.
    pub const fn negative_ttl(self, negative_ttl: Duration) -> Self {
        Self { negative_ttl, ..self }
    }

    /// Sets how far beyond its maximum age a value may be served, flagged, while the database is
    /// down.
    pub const fn stale_if_error(self, stale_if_error: Duration) -> Self {
        Self { stale_if_error, ..self }
    }

    /// Sets the form of the payload in L2.
    pub const fn format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Sets the version of the stored form. Change it with a change of the type that other releases
    /// would misread.
    ///
    /// ```
    /// use aside_cache::{Format, Policy};
    /// use std::time::Duration;
    ///
    /// const POLICY: Policy =
    ///     Policy::public("product", Duration::from_hours(1)).format(Format::MessagePack).schema_version("2");
    /// assert_eq!(POLICY.schema_version, "2");
    /// ```
    pub const fn schema_version(self, schema_version: &'static str) -> Self {
        Self { schema_version, ..self }
    }

    /// Sets the regions and tiers that may store the values.
    pub const fn residency(self, residency: Residency) -> Self {
        Self { residency, ..self }
    }

    /// Names fields of the JSON, at any depth, whose values may change although no tag rises. A
    /// difference in any other field is reported as a change that raised no tag.
    ///
    /// ```
    /// use aside_cache::Policy;
    /// use std::time::Duration;
    ///
    /// const POLICY: Policy = Policy::public("product", Duration::from_hours(1)).volatile(&["view_count"]);
    /// assert_eq!(POLICY.volatile, ["view_count"]);
    /// ```
    pub const fn volatile(self, volatile: &'static [&'static str]) -> Self {
        Self { volatile, ..self }
    }

    /// The maximum age of an answer of this type. It is shorter for a known absence.
    pub(crate) fn max_age(&self, absent: bool) -> Duration {
        if absent { self.negative_ttl.min(self.max_age) } else { self.max_age }
    }

    /// Lifetime in L1, shortened by jitter.
    pub(crate) fn l1_lifetime(&self, absent: bool) -> Duration {
        let lifetime = if absent { self.negative_ttl.min(self.l1_ttl) } else { self.l1_ttl };
        self.jittered(lifetime.min(L1_LIFETIME_CAP))
    }

    /// How long L1 retains an entry. This is longer than its lifetime, so that the entry can be
    /// served during a refresh or while the database is down. The read decides whether it may be
    /// served.
    pub(crate) fn l1_retention(&self, absent: bool) -> Duration {
        let lifetime = self.l1_ttl.min(L1_LIFETIME_CAP);
        match self.stale_if_error {
            _ if absent => lifetime,
            Duration::ZERO => 2 * lifetime,
            beyond => self.max_age + beyond,
        }
    }

    /// Lifetime in L2, shortened by jitter.
    pub(crate) fn l2_lifetime(&self, absent: bool) -> Duration {
        let lifetime = if absent { self.negative_ttl.min(self.l2_ttl) } else { self.l2_ttl };
        self.jittered(lifetime.min(self.max_age))
    }

    fn jittered(&self, lifetime: Duration) -> Duration {
        let part = f64::from(self.jitter_percent.min(100)) / 100.0;
        lifetime.mul_f64(1.0 - part * fastrand::f64())
    }
}

const fn shorter(a: Duration, b: Duration) -> Duration {
    if a.as_nanos() < b.as_nanos() { a } else { b }
}

/// The sensitivity of a type, which decides how its values are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// Every client may read the values.
    Public,
    /// The values belong to a tenant. Keys name the tenant, and L2 gets only sealed values under
    /// hashed tags, or nothing.
    Personal,
    /// As `Personal`, and the cache tells each access to the service's [`Recorder`](crate::Recorder).
    Regulated,
}

impl Sensitivity {
    /// Whether keys of the type must name a tenant.
    pub const fn is_personal(self) -> bool {
        matches!(self, Self::Personal | Self::Regulated)
    }
}

/// The regions and tiers that may store the values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Residency {
    /// The tiers of every region.
    Shared,
    /// Only the tiers of the tenant's home region.
    Regional(OutOfRegion),
    /// Only this process, never L2.
    ProcessOnly,
}

/// How a read outside of the tenant's home region is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfRegion {
    /// The database answers it, and the answer is not stored.
    NoStore,
    /// The read is refused.
    Reject,
}

/// The encoding of a payload in L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the response as they are. An L2 hit needs no encoding.
    Json,
    /// MessagePack with field names. It is smaller, but an L2 hit must encode the response again.
    MessagePack,
}

impl Format {
    /// The letter of the format in a key of L2.
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Json => "j",
            Self::MessagePack => "m",
        }
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}
