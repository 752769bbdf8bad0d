//! A policy per data type, declared once beside the type. Every field is required: there is no way to cache without a lifetime.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

/// The longest lifetime in L1. After it an entry is refreshed; it may be kept for longer, to be served meanwhile.
pub const L1_LIFETIME_CAP: Duration = Duration::from_secs(60);

/// The highest maximal age that a policy may ask for. Floors are kept for as long, so that an old answer can't outlive the memory
/// of the change that made it wrong. [`Key`](super::Key) checks it when the program is compiled.
pub const MAX_AGE_CAP: Duration = Duration::from_secs(3600);

/// A type whose values may be cached, with the rules that apply to all of them.
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The rules.
    const POLICY: Policy;
}

/// How long, where and in which form the values of one type are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The key pattern: first segment of every key of the type, and the label of its metrics.
    #[serde(rename = "pattern")]
    pub name: &'static str,
    /// Lifetime in L1 (in process). More than [`L1_LIFETIME_CAP`] is cut to it.
    #[serde(rename = "l1_seconds", serialize_with = "seconds")]
    pub l1_ttl: Duration,
    /// Lifetime in L2, before jitter.
    #[serde(rename = "l2_seconds", serialize_with = "seconds")]
    pub l2_ttl: Duration,
    /// Lifetime, in both tiers, of the knowledge that the database has no such value.
    #[serde(rename = "absent_seconds", serialize_with = "seconds")]
    pub negative_ttl: Duration,
    /// Age (at most [`MAX_AGE_CAP`]), by the database's clock, at which a value is never served again wherever it was kept meanwhile.
    #[serde(rename = "max_age_seconds", serialize_with = "seconds")]
    pub max_age: Duration,
    /// How far beyond its maximal age a value may be served, flagged, while the database can't be reached; 0: never.
    #[serde(rename = "stale_if_error_seconds", serialize_with = "seconds")]
    pub stale_if_error: Duration,
    /// Lifetimes are shortened by a random part of up to this many percent, so that entries made together don't expire together.
    pub jitter_percent: u8,
    /// Form of the payload in L2.
    pub format: Format,
    /// Names the form of the values, as part of their keys in L2: another one after a change that other releases would misread. Two
    /// releases side by side then share what they both understand and nothing else.
    #[serde(rename = "shape")]
    pub schema_version: &'static str,
    /// Payloads of at least this many bytes are compressed (LZ4) in L2.
    pub compress_above: usize,
    /// Whose business the values are.
    pub sensitivity: Sensitivity,
    /// Where they may be kept.
    pub residency: Residency,
}

impl Policy {
    /// Age at which an answer of this type is never served again: shorter for a known absence.
    pub(super) fn max_age(&self, absent: bool) -> Duration {
        if absent { self.negative_ttl.min(self.max_age) } else { self.max_age }
    }

    /// Lifetime in L1, shortened by jitter.
    pub(super) fn l1_lifetime(&self, absent: bool) -> Duration {
        let lifetime = if absent { self.negative_ttl.min(self.l1_ttl) } else { self.l1_ttl };
        self.jittered(lifetime.min(L1_LIFETIME_CAP))
    }

    /// For how long L1 keeps an entry: beyond its lifetime, so that it can be served while it is refreshed or while the database
    /// is away. Whether it may be is decided when it is read.
    pub(super) fn l1_retention(&self, absent: bool) -> Duration {
        let lifetime = self.l1_ttl.min(L1_LIFETIME_CAP);
        match self.stale_if_error {
            _ if absent => lifetime,
            Duration::ZERO => 2 * lifetime,
            beyond => self.max_age + beyond,
        }
    }

    /// Lifetime in L2, shortened by jitter.
    pub(super) fn l2_lifetime(&self, absent: bool) -> Duration {
        let lifetime = if absent { self.negative_ttl.min(self.l2_ttl) } else { self.l2_ttl };
        self.jittered(lifetime.min(self.max_age))
    }

    fn jittered(&self, lifetime: Duration) -> Duration {
        let part = f64::from(self.jitter_percent.min(100)) / 100.0;
        lifetime.mul_f64(1.0 - part * fastrand::f64())
    }
}

/// Whose business the values of a type are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// Everybody's.
    Public,
    /// A tenant's: keys name the tenant, and L2 gets sealed values under hashed names or nothing.
    Personal,
    /// As personal, and who read it is recorded.
    Regulated,
}

impl Sensitivity {
    /// Whether keys of the type must name a tenant.
    pub const fn is_personal(self) -> bool {
        matches!(self, Self::Personal | Self::Regulated)
    }
}

/// Where the values of a type may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Residency {
    /// In the tiers of every region.
    Shared,
    /// In the tiers of the tenant's home region only.
    Regional(OutOfRegion),
    /// In the process, never in L2.
    ProcessOnly,
}

/// What becomes of a read in another region than the tenant's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfRegion {
    /// It is answered by the database, and the answer is not kept.
    NoStore,
    /// It is refused.
    Reject,
}

/// Form of a payload in L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the response as they are: an L2 hit needs no encoding.
    Json,
    /// MessagePack with field names: smaller, and the response is encoded again at an L2 hit.
    MessagePack,
}

impl Format {
    /// Its part of a key in L2.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Json => "j",
            Self::MessagePack => "m",
        }
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}
