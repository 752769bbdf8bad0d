//! Encryption of the entries in L2 by AES-256-GCM. The keys are derived for each tenant and each
//! process, so the nonce is a counter and can't repeat.
//!
//! A sealed entry is `version · length and id of the key · salt · nonce · ciphertext · tag`. The
//! whole head is authenticated, and so is the place of the entry. A sealed entry can't be opened
//! under another key, another tenant or another format. Every derived key also depends on the
//! *secret* of a tenant, which is in Postgres. The configured keys open nothing without the secret,
//! so deleting the secret makes the tenant's entries unreadable (crypto-shredding).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::{
    Cache, Cacheable,
    key::{Key, Tag},
    protect::keys::Secret,
};

/// The revision of the sealed form, which is its first byte.
const VERSION: u8 = 1;
const SALT: usize = 16;
const KEY: usize = 32;
/// Bytes of a hashed tag. The hashes of two different tags never share these 128 bits.
const HASHED: usize = 16;
/// The longest id of a key.
const MAX_ID: usize = 32;
/// The largest number of derived keys in memory. Deriving one takes a few microseconds.
const REMEMBERED: usize = 4096;

/// The reason why the configured keys can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The keys are not in the form `id:64 hex digits`, separated by commas.
    #[error("keys must be id:64 hex digits, separated by commas; ids are 1 to 32 letters, digits, '-' or '_'")]
    Malformed,
    /// Two keys have the same id.
    #[error("each key must have an id of its own")]
    DuplicateId,
    /// Two ids have the same key.
    #[error("two keys are the same: taking one of them away would change nothing")]
    DuplicateKey,
    /// The operating system returned no random bytes.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// The error of an entry that was not sealed by these keys or not for this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed by a key that is known, or not for this place")]
pub struct DecryptError;

struct Master {
    id: String,
    key: Zeroizing<[u8; KEY]>,
}

/// The keys of one process. The first key seals, and all of them open.
pub struct Keyring {
    masters: Vec<Master>,
    /// The random salt of this process. It ensures that no two processes ever seal with the same
    /// key.
    salt: [u8; SALT],
    sealed: AtomicU64,
    derived: RwLock<HashMap<Derived, Arc<LessSafeKey>>>,
}

/// The input of a derived key: the index of the master key, the salt of the process, and the
/// tenant's secret.
type Derived = (usize, [u8; SALT], Secret);

impl Keyring {
    /// Parses configured keys: `id:64 hex digits`, separated by commas or line ends.
    ///
    /// ```
    /// use aside_cache::{Keyring, KeyringError};
    ///
    /// let (new, old) = ("11".repeat(32), "22".repeat(32));
    /// let keys = Keyring::parse(&format!("2027:{new},2026:{old}")).unwrap();
    /// assert_eq!(keys.ids(), ["2027", "2026"]);
    /// assert_eq!(Keyring::parse("2027:too-short").err(), Some(KeyringError::Malformed));
    /// ```
    ///
    /// # Errors
    /// Returns an error if they are not in that form. The error does not contain the keys.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut masters: Vec<Master> = Vec::new();
        for given in text.split([',', '\n']).map(str::trim).filter(|given| !given.is_empty()) {
            let (id, digits) = given.split_once(':').ok_or(KeyringError::Malformed)?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if !(1..=MAX_ID).contains(&id.len()) || !id.bytes().all(plain) {
                return Err(KeyringError::Malformed);
            }
            if masters.iter().any(|known| known.id == id) {
                return Err(KeyringError::DuplicateId);
            }
            let key = from_hex(digits).ok_or(KeyringError::Malformed)?;
            if masters.iter().any(|known| known.key == key) {
                return Err(KeyringError::DuplicateKey);
            }
            masters.push(Master { id: id.to_owned(), key });
        }
        if masters.is_empty() {
            return Err(KeyringError::Malformed);
        }
        let mut salt = [0; SALT];
        SystemRandom::new().fill(&mut salt).map_err(|_| KeyringError::NoRandomness)?;
        Ok(Self { masters, salt, sealed: AtomicU64::new(0), derived: RwLock::default() })
    }

    /// The ids of the keys. The key that seals is the first.
    pub fn ids(&self) -> Vec<&str> {
        self.masters.iter().map(|master| master.id.as_str()).collect()
    }

    /// Seals `plain` for a place. Returns `None` after 2^64 seals.
    ///
    /// ```
    /// use aside_cache::{DecryptError, Keyring};
    ///
    /// let keys = Keyring::parse(&format!("2027:{}", "11".repeat(32))).unwrap();
    /// let sealed = keys.seal(&[7; 32], b"order:acme:7", b"bananas").unwrap();
    /// assert_eq!(keys.open(&[7; 32], b"order:acme:7", &sealed).unwrap(), b"bananas");
    /// assert_eq!(keys.open(&[7; 32], b"order:acme:8", &sealed), Err(DecryptError));
    /// ```
    pub fn seal(&self, secret: &Secret, place: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let count =
            self.sealed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_add(1)).ok()?;
        let id = self.masters[0].id.as_bytes();
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&count.to_be_bytes());

        let mut sealed = Vec::with_capacity(2 + id.len() + SALT + NONCE_LEN + plain.len() + MAX_TAG_LEN);
        sealed.extend([VERSION, id.len() as u8]);
        sealed.extend(id);
        sealed.extend(self.salt);
        sealed.extend(nonce);
        let head = sealed.len();
        let aad = Aad::from([&sealed[..], place].concat());
        sealed.extend(plain);
        let key = self.derive(0, self.salt, secret);
        let (_, body) = sealed.split_at_mut(head);
        let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, body).ok()?;
        sealed.extend(tag.as_ref());
        Some(sealed)
    }

    /// Opens an entry that was sealed for a place.
    ///
    /// # Errors
    /// Returns an error if the entry was not sealed by one of these keys, with this secret, for
    /// this place. It also does so if a bit has changed.
    pub fn open(&self, secret: &Secret, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let (&[version, length], rest) = sealed.split_first_chunk().ok_or(DecryptError)?;
        let (id, rest) = rest.split_at_checked(length.into()).ok_or(DecryptError)?;
        let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or(DecryptError)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(DecryptError)?;
        let master = self.masters.iter().position(|master| master.id.as_bytes() == id).ok_or(DecryptError)?;
        if version != VERSION {
            return Err(DecryptError);
        }
        let head = &sealed[..sealed.len() - body.len()];
        let aad = Aad::from([head, place].concat());
        let known = self.remembered(&(master, *salt, *secret));
        let key = known.clone().unwrap_or_else(|| Arc::new(self.derived(master, salt, secret)));
        let mut body = body.to_vec();
        let plain =
            key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut body).map_err(|_| DecryptError)?.len();
        body.truncate(plain);
        if known.is_none() {
            // Only a key that has opened an entry is remembered. Otherwise garbage with ever new
            // salts would fill the memory.
            self.remember((master, *salt, *secret), key);
        }
        Ok(body)
    }

    /// Drops the keys that were derived from a secret.
    pub(crate) fn drop_keys(&self, secret: &Secret) {
        self.derived.write().unwrap_or_else(PoisonError::into_inner).retain(|(_, _, from), _| from != secret);
    }

    fn derive(&self, master: usize, salt: [u8; SALT], secret: &Secret) -> Arc<LessSafeKey> {
        let from = (master, salt, *secret);
        self.remembered(&from).unwrap_or_else(|| {
            let key = Arc::new(self.derived(master, &salt, secret));
            self.remember(from, Arc::clone(&key));
            key
        })
    }

    fn derived(&self, master: usize, salt: &[u8; SALT], secret: &Secret) -> LessSafeKey {
        let prk: Prk = Salt::new(HKDF_SHA256, salt).extract(&*self.masters[master].key);
        let info = [b"aside entry".as_slice(), secret];
        let okm = prk.expand(&info, &AES_256_GCM).expect("a key is shorter than HKDF's limit");
        LessSafeKey::new(UnboundKey::from(okm))
    }

    fn remembered(&self, from: &Derived) -> Option<Arc<LessSafeKey>> {
        self.derived.read().unwrap_or_else(PoisonError::into_inner).get(from).cloned()
    }

    fn remember(&self, from: Derived, key: Arc<LessSafeKey>) {
        let mut derived = self.derived.write().unwrap_or_else(PoisonError::into_inner);
        if derived.len() >= REMEMBERED {
            derived.clear();
        }
        derived.insert(from, key);
    }
}

/// A hash of a tag. Without the secret, a reader can't tell which tag it stands for.
pub(crate) fn hashed(secret: &Secret, pattern: &str, tag: &Tag) -> Option<String> {
    use std::fmt::Write;
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), tag.as_str().as_bytes());
    let mut text = format!("{pattern}:");
    for byte in &mac.as_ref()[..HASHED] {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

impl Cache {
    /// Seals with other keys from now on. Three steps change keys without losing an entry:
    /// 1. Add the new key to all instances, behind the old one.
    /// 2. Put the new key first.
    /// 3. Remove the old key after the longest lifetime in L2.
    pub fn change_keys(&self, keys: Keyring) {
        self.inner.placement.keys.change(keys);
    }

    /// The digest that stands for personal data in L2: the last part of its key. It is all that a
    /// reader without the secret sees. It is `None` while the tenant isn't known.
    pub fn hashed_name<T: Cacheable>(&self, key: &Key<T>) -> Option<String> {
        self.inner.placement.hashed(key.tenant_of()?, T::POLICY.name, key.tag())
    }

    /// The ids of the keys that seal and open entries. The key that seals is the first. If there is
    /// none, nothing is sealed.
    pub fn key_ids(&self) -> Vec<String> {
        let keys = self.inner.placement.keys.current();
        keys.iter().flat_map(|keys| keys.ids()).map(str::to_owned).collect()
    }
}

impl fmt::Debug for Keyring {
    /// Writes the ids only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.ids()).finish()
    }
}

fn from_hex(digits: &str) -> Option<Zeroizing<[u8; KEY]>> {
    let mut key = Zeroizing::new([0; KEY]);
    if digits.len() != 2 * KEY {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(16 * digit(0)? + digit(1)?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "old:1111111111111111111111111111111111111111111111111111111111111111";
    const NEW: &str = "new:2222222222222222222222222222222222222222222222222222222222222222";
    const SECRET: Secret = [7; 32];

    fn keyring(keys: &[&str]) -> Keyring {
        Keyring::parse(&keys.join(",")).expect("keys")
    }

    proptest! {
        #[test]
        fn no_changed_bit_goes_unseen(plain in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let keys = keyring(&[OLD]);
            let mut sealed = keys.seal(&SECRET, b"here", &plain).unwrap();
            prop_assert_eq!(keys.open(&SECRET, b"here", &sealed), Ok(plain));
            let at = at.index(sealed.len());
            sealed[at] ^= 1_u8 << bit;
            prop_assert_eq!(keys.open(&SECRET, b"here", &sealed), Err(DecryptError));
            prop_assert_eq!(keys.open(&SECRET, b"here", &sealed[..at]), Err(DecryptError));
        }

        #[test]
        fn garbage_opens_nothing_and_leaves_nothing_behind(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
            let keys = keyring(&[OLD]);
            prop_assert_eq!(keys.open(&SECRET, b"here", &garbage), Err(DecryptError));
            let with_head = [&[VERSION, 3], b"old".as_slice(), &garbage].concat();
            prop_assert_eq!(keys.open(&SECRET, b"here", &with_head), Err(DecryptError));
            prop_assert!(keys.derived.read().unwrap().is_empty());
        }
    }

    #[test]
    fn a_sealed_entry_opens_at_its_place_with_its_secret_only() {
        let keys = keyring(&[OLD]);
        let sealed = keys.seal(&SECRET, b"here", b"plain").unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"plain"));
        assert_eq!(keys.open(&SECRET, b"here", &sealed), Ok(b"plain".to_vec()));
        assert_eq!(keys.open(&SECRET, b"there", &sealed), Err(DecryptError));
        assert_eq!(keys.open(&[8; 32], b"here", &sealed), Err(DecryptError));
    }

    #[test]
    fn the_first_key_seals_and_all_open_so_keys_can_be_changed_in_steps() {
        let [before, during, after] = [keyring(&[OLD]), keyring(&[NEW, OLD]), keyring(&[NEW])];
        let (old, new) = (before.seal(&SECRET, b"", b"x").unwrap(), during.seal(&SECRET, b"", b"x").unwrap());
        assert!(during.open(&SECRET, b"", &old).is_ok() && after.open(&SECRET, b"", &new).is_ok());
        assert_eq!(after.open(&SECRET, b"", &old), Err(DecryptError), "a key that was taken away opens nothing");
    }

    #[test]
    fn neither_a_process_nor_two_of_them_seal_twice_with_one_key_and_nonce() {
        let (one, other) = (keyring(&[OLD]), keyring(&[OLD]));
        let heads: std::collections::HashSet<Vec<u8>> = (0..100)
            .flat_map(|_| [&one, &other])
            .map(|keys| keys.seal(&SECRET, b"", b"").unwrap()[..2 + 3 + SALT + NONCE_LEN].to_vec())
            .collect();
        assert_eq!(heads.len(), 200);
    }

    #[test]
    fn keys_in_another_form_are_refused_and_never_shown() {
        let short = &OLD[..OLD.len() - 1];
        for wrong in
            ["", "old", "old:", short, &OLD.replace('1', "g"), &format!(":{}", &OLD[4..]), &format!("a b{}", &OLD[3..])]
        {
            assert_eq!(Keyring::parse(wrong).err(), Some(KeyringError::Malformed), "{wrong}");
        }
        assert_eq!(Keyring::parse(&format!("{OLD},{OLD}")).err(), Some(KeyringError::DuplicateId));
        let same = format!("{OLD},{}", OLD.replace("old", "new"));
        assert_eq!(Keyring::parse(&same).err(), Some(KeyringError::DuplicateKey));
        let [lower, upper] = [("a", "ab"), ("b", "AB")].map(|(id, digits)| format!("{id}:{}", digits.repeat(32)));
        assert_eq!(Keyring::parse(&format!("{lower}\n{upper}")).err(), Some(KeyringError::DuplicateKey));
        let shown = format!("{:?}", keyring(&[NEW, OLD]));
        assert_eq!(shown, r#"Keyring(["new", "old"])"#);
    }
}
