//! The fuzz targets: functions that read bytes from outside get arbitrary bytes. None may panic,
//! and an opened entry must equal the sealed one. FUZZ_TARGET names the one of [`TARGETS`] that
//! runs. `scripts/fuzz.sh` runs them in turn.
#![no_main]

use std::{env, sync::LazyLock};

use aside::{
    audit,
    domain::{
        ListKind, PageRequest,
        names::is_name,
        orders::{Order, OrderPage},
        products::{Product, ProductPage},
    },
    http::identity::{Expected, Verifier},
};
use aside_cache::{ConsistencyToken, Key, Keyring, Tag, Tenant, codec};
use libfuzzer_sys::fuzz_target;

/// Each target has a folder of its name in `corpus/`.
const TARGETS: [(&str, fn(&[u8])); 9] = [
    ("audit", audit_file),
    ("bearer", bearer),
    ("cursor", cursor),
    ("entry", entry),
    ("key-set", key_set),
    ("keys", keys),
    ("name", name),
    ("sealed", sealed),
    ("token", token),
];

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let asked = env::var("FUZZ_TARGET").ok().filter(|name| !name.is_empty()).expect("FUZZ_TARGET names what is fed");
    TARGETS.iter().find(|(name, _)| *name == asked).expect("FUZZ_TARGET is one of TARGETS").1
});

fuzz_target!(|data: &[u8]| TARGET(data));

static KEYS: LazyLock<Keyring> = LazyLock::new(|| Keyring::parse(&format!("k:{}", "5a".repeat(32))).expect("keys"));
static TENANT: LazyLock<Tenant> = LazyLock::new(|| Tenant::parse("demo").expect("a tenant"));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::with_secret(&"s".repeat(32), expected()));

fn expected() -> Expected {
    Expected { audience: "aside".into(), issuer: None }
}

/// A file of the audit.
fn audit_file(data: &[u8]) {
    drop(audit::verify(data, None));
}

/// A bearer token. The target does not have the secret, so every token must be rejected.
fn bearer(data: &[u8]) {
    assert!(!VERIFIER.accepts(&String::from_utf8_lossy(data)), "a forgery was believed");
}

/// The cursor of a page.
fn cursor(data: &[u8]) {
    for list in [ListKind::Products, ListKind::Orders] {
        let _ = PageRequest::parse(list, Some(20), Some(&String::from_utf8_lossy(data)));
    }
}

/// An entry of Redis after it was opened.
fn entry(data: &[u8]) {
    let _ = codec::decode(&Product::key(1), data);
    let _ = codec::decode(&Key::<ProductPage>::new(1), data);
    let _ = codec::decode(&Order::key(&TENANT, 1), data);
    let _ = codec::decode(&Key::<OrderPage>::of_tenant(&TENANT, 1), data);
}

/// A set of public keys.
fn key_set(data: &[u8]) {
    drop(Verifier::with_key_set(&String::from_utf8_lossy(data), expected()));
}

/// Encryption keys as an operator may configure them.
fn keys(data: &[u8]) {
    drop(Keyring::parse(&String::from_utf8_lossy(data)));
}

/// Segments of keys. Different segments never give the same tag.
fn name(data: &[u8]) {
    let (a, b) = data.split_at(data.len() / 2);
    let [a, b] = [a, b].map(String::from_utf8_lossy);
    let (two, one) = (Tag::new("p", (&*a, &*b)), Tag::new("p", format!("{a}{b}")));
    assert_ne!(two, one);
    assert_eq!(two == Tag::new("p", (&*b, &*a)), a == b);
    let _ = is_name(&String::from_utf8_lossy(data));
}

/// A sealed entry.
fn sealed(data: &[u8]) {
    let secret = [7; 32];
    assert!(KEYS.open(&secret, b"place", data).is_err(), "a forgery was opened");
    let sealed = KEYS.seal(&secret, b"place", data).expect("it is sealed");
    assert_eq!(KEYS.open(&secret, b"place", &sealed).as_deref(), Ok(data));
    assert!(KEYS.open(&secret, b"elsewhere", &sealed).is_err());
}

/// A consistency token.
fn token(data: &[u8]) {
    let _ = String::from_utf8_lossy(data).parse::<ConsistencyToken>();
}
