//! Encodes entries for L2 and decodes them. `placement.rs` seals the encoded bytes. Bytes from L2
//! are never trusted. Their size is checked before memory is allocated, and an entry must contain
//! the key under which it is stored. An entry that can't be decoded is a miss with its own outcome
//! and never an error.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    entry::{DbTime, Entry, TagVersion},
    key::{Key, Tag},
    policy::{Cacheable, Format},
};

/// The revision of this encoding. With a policy's format and schema version, it is part of every
/// key in L2. Two releases that run side by side then never decode each other's entries wrongly.
pub(crate) const REVISION: &str = "2";

/// The largest entry in bytes. A larger one is neither written to L2 nor read. The scripts rely on
/// no entry being twice as large.
const MAX_ENTRY: usize = 1 << 20;
/// The largest payload in bytes. A payload that claims to become larger is not decompressed.
const MAX_PAYLOAD: usize = 4 << 20;
/// The largest number of tag versions. An entry with more was not written by this code.
const MAX_TAG_VERSIONS: usize = 1_024;

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    key: &'a str,
    loaded_at: DbTime,
    snapshot_upper_bound: DbTime,
    tag_versions: Vec<(&'a str, i64)>,
    valid_until: Option<DbTime>,
    payload: Payload<'a>,
}

#[derive(Serialize, Deserialize)]
enum Payload<'a> {
    Absent,
    Plain(#[serde(with = "serde_bytes")] &'a [u8]),
    Lz4 {
        size: u32,
        #[serde(with = "serde_bytes")]
        bytes: &'a [u8],
    },
}

/// The reason why an entry could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The entry is larger than the limit.
    #[error("entry of {0} bytes is above the limit")]
    TooLarge(usize),
    /// The entry contains another key than the one under which it was found.
    #[error("entry names another key")]
    ForeignKey,
    /// The bytes are not an encoded entry of this type.
    #[error("entry does not decode: {0}")]
    Undecodable(String),
}

impl CodecError {
    fn undecodable(error: impl ToString) -> Self {
        Self::Undecodable(error.to_string())
    }
}

/// Makes an entry of a loaded value. It encodes the response once, for all readers.
///
/// # Errors
/// Returns an error if the value can't be encoded as JSON.
pub fn entry<T: Cacheable>(
    value: Option<T>,
    tag_versions: Arc<[TagVersion]>,
    (loaded_at, snapshot_upper_bound): (DbTime, DbTime),
) -> Result<Entry<T>, CodecError> {
    let body = match &value {
        // The boxed slice has no spare capacity, unlike the encoder's vector.
        Some(value) => serde_json::to_vec(value).map_err(CodecError::undecodable)?.into_boxed_slice().into(),
        None => Bytes::new(),
    };
    let (digest, valid_until) = (digest(&body), None);
    Ok(Entry { value, body, digest, tag_versions, loaded_at, snapshot_upper_bound, valid_until })
}

/// A digest of response bytes. It is the same on every machine and in every build.
///
/// ```
/// use aside_cache::digest;
///
/// assert_eq!(digest(b"bananas"), digest(b"bananas"));
/// assert_ne!(digest(b"bananas"), digest(b"Bananas"));
/// ```
pub fn digest(body: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(body)
}

/// Encodes an entry for L2.
///
/// ```
/// # use aside_cache::{Cacheable, Policy};
/// # #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// # struct Product { price_cents: i64 }
/// # impl Cacheable for Product {
/// #     const POLICY: Policy = Policy::public("product", std::time::Duration::from_hours(1));
/// # }
/// use aside_cache::{DbTime, Key, Tag, TagVersion, codec};
///
/// let key = Key::<Product>::new(42);
/// let versions = [TagVersion { tag: Tag::new("product", 42), version: 7 }];
/// let read_at = (DbTime(1_795_000_000_000_000), DbTime(1_795_000_000_000_001));
/// let entry = codec::entry(Some(Product { price_cents: 89 }), versions.into(), read_at).unwrap();
/// assert_eq!((entry.entry_version(), &*entry.body), (7, br#"{"price_cents":89}"#.as_slice()));
///
/// let encoded = codec::encode(&key, &entry).unwrap();
/// assert_eq!(codec::decode(&key, &encoded).unwrap().value, entry.value);
/// assert!(codec::decode(&Key::<Product>::new(43), &encoded).is_err());
/// ```
///
/// # Errors
/// Returns an error if the entry is too large, or if its value can't be encoded in the policy's
/// format.
pub fn encode<T: Cacheable>(key: &Key<T>, entry: &Entry<T>) -> Result<Bytes, CodecError> {
    let packed;
    let plain: Option<&[u8]> = match (&entry.value, T::POLICY.format) {
        (None, _) => None,
        (Some(_), Format::Json) => Some(&entry.body),
        (Some(value), Format::MessagePack) => {
            packed = rmp_serde::to_vec_named(value).map_err(CodecError::undecodable)?;
            Some(&packed)
        }
    };
    let compressed;
    let payload = match plain {
        None => Payload::Absent,
        Some(bytes) if bytes.len() >= T::POLICY.compress_above => {
            compressed = lz4_flex::block::compress(bytes);
            Payload::Lz4 { size: bytes.len() as u32, bytes: &compressed }
        }
        Some(bytes) => Payload::Plain(bytes),
    };
    let tag_versions = entry.tag_versions.iter().map(|l| (l.tag.as_str(), l.version)).collect();
    let Entry { loaded_at, snapshot_upper_bound, valid_until, .. } = *entry;
    let envelope = Envelope { key: key.as_str(), loaded_at, snapshot_upper_bound, tag_versions, valid_until, payload };
    let encoded = rmp_serde::to_vec(&envelope).map_err(CodecError::undecodable)?;
    match encoded.len() {
        size if size > MAX_ENTRY => Err(CodecError::TooLarge(size)),
        _ => Ok(encoded.into()),
    }
}

/// Decodes an entry from L2.
///
/// # Errors
/// Returns an error if the bytes are too large, contain another key, or are not an entry of this
/// type.
pub fn decode<T: Cacheable>(key: &Key<T>, encoded: &[u8]) -> Result<Entry<T>, CodecError> {
    if encoded.len() > MAX_ENTRY {
        return Err(CodecError::TooLarge(encoded.len()));
    }
    let envelope: Envelope<'_> = rmp_serde::from_slice(encoded).map_err(CodecError::undecodable)?;
    if envelope.key != key.as_str() {
        return Err(CodecError::ForeignKey);
    }
    if envelope.tag_versions.len() > MAX_TAG_VERSIONS {
        return Err(CodecError::TooLarge(envelope.tag_versions.len()));
    }
    let tag_versions = envelope
        .tag_versions
        .into_iter()
        .map(|(name, version)| TagVersion { tag: Tag::from_ledger(name), version })
        .collect();
    let (times, valid_until) = ((envelope.loaded_at, envelope.snapshot_upper_bound), envelope.valid_until);
    let payload = match envelope.payload {
        Payload::Absent => return Ok(Entry { valid_until, ..entry(None, tag_versions, times)? }),
        Payload::Plain(bytes) => Bytes::copy_from_slice(bytes),
        Payload::Lz4 { size, bytes } => {
            let size = size as usize;
            if size > MAX_PAYLOAD {
                return Err(CodecError::TooLarge(size));
            }
            lz4_flex::block::decompress(bytes, size).map_err(CodecError::undecodable)?.into()
        }
    };
    match T::POLICY.format {
        Format::Json => {
            // The whole text is checked once to be UTF-8, and not string by string.
            let text = std::str::from_utf8(&payload).map_err(CodecError::undecodable)?;
            let value = serde_json::from_str(text).map_err(CodecError::undecodable)?;
            let digest = digest(&payload);
            let (loaded_at, snapshot_upper_bound) = times;
            let (value, body) = (Some(value), payload);
            Ok(Entry { value, body, digest, tag_versions, loaded_at, snapshot_upper_bound, valid_until })
        }
        Format::MessagePack => {
            let value = rmp_serde::from_slice(&payload).map_err(CodecError::undecodable)?;
            Ok(Entry { valid_until, ..entry(Some(value), tag_versions, times)? })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Policy, Residency, Sensitivity};

    const POLICY: Policy = Policy {
        name: "note",
        l1_ttl: Duration::from_secs(10),
        l2_ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(5),
        max_age: Duration::from_secs(60),
        stale_if_error: Duration::ZERO,
        jitter_percent: 0,
        format: Format::Json,
        schema_version: "1",
        compress_above: 64,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
        volatile: &[],
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Json(String);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Packed(String);

    impl Cacheable for Json {
        const POLICY: Policy = POLICY;
    }
    impl Cacheable for Packed {
        const POLICY: Policy = Policy { format: Format::MessagePack, ..POLICY };
    }

    fn sample<T: Cacheable>(value: Option<T>, version: i64) -> Entry<T> {
        let tag_versions = [TagVersion { tag: Tag::from_ledger("note:1"), version }];
        let times = (DbTime(1_700_000_000_000_000), DbTime(1_700_000_000_000_009));
        Entry { valid_until: Some(DbTime(version)), ..entry(value, tag_versions.into(), times).unwrap() }
    }

    fn survives<T: Cacheable + std::fmt::Debug + PartialEq>(value: Option<T>, version: i64) {
        let (key, entry) = (Key::<T>::new(1), sample(value, version));
        let opened = decode(&key, &encode(&key, &entry).unwrap()).unwrap();
        assert_eq!(opened.value, entry.value);
        assert_eq!(opened.body, entry.body, "the bytes of the response are the same after L2");
        assert_eq!(opened.digest, entry.digest);
        assert_eq!(opened.tag_versions, entry.tag_versions);
        assert_eq!(opened.valid_until, entry.valid_until);
        assert_eq!((opened.loaded_at, opened.snapshot_upper_bound), (entry.loaded_at, entry.snapshot_upper_bound));
    }

    proptest! {
        #[test]
        fn entries_survive_the_way_through_l2_in_every_format(text in ".{0,200}", version in any::<i64>()) {
            survives(Some(Json(text.clone())), version);
            survives(Some(Packed(text)), version);
            survives::<Json>(None, version);
        }

        #[test]
        fn damaged_entries_never_panic(text in ".{0,200}", at in any::<prop::sample::Index>(), flip in 1u8..) {
            let key = Key::<Packed>::new(1);
            let mut encoded = encode(&key, &sample(Some(Packed(text)), 3)).unwrap().to_vec();
            let at = at.index(encoded.len());
            encoded[at] ^= flip;
            let _ = decode(&key, &encoded);
            let _ = decode(&key, &encoded[..at]);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&Key::<Json>::new(1), &garbage).is_err());
        }
    }

    #[test]
    fn an_entry_under_another_key_is_refused() {
        let (one, two) = (Key::<Json>::new(1), Key::<Json>::new(2));
        let encoded = encode(&one, &sample(Some(Json("x".into())), 1)).unwrap();
        assert!(matches!(decode(&two, &encoded), Err(CodecError::ForeignKey)));
    }

    #[test]
    fn a_payload_that_claims_to_grow_beyond_the_limit_is_not_decompressed() {
        let key = Key::<Json>::new(1);
        let payload = Payload::Lz4 { size: u32::MAX, bytes: b"bomb" };
        let envelope = Envelope {
            key: key.as_str(),
            loaded_at: DbTime(0),
            snapshot_upper_bound: DbTime(0),
            tag_versions: vec![],
            valid_until: None,
            payload,
        };
        let encoded = rmp_serde::to_vec(&envelope).unwrap();
        assert!(matches!(decode(&key, &encoded), Err(CodecError::TooLarge(_))));
    }
}
