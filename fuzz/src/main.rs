//! What takes bytes from elsewhere, fed with whatever comes: nothing may panic, and what is opened must be what was sealed. The first
//! byte chooses what the rest is fed to.
#![no_main]

use std::sync::LazyLock;

use aside::{
    audit,
    cache::{ConsistencyToken, Key, Keyring, Name, Tenant, codec},
    domain::{
        ListKind, PageRequest,
        names::is_name,
        orders::{Order, OrderPage},
        products::{Product, ProductPage},
    },
    http::identity::{Expected, Verifier},
};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<Keyring> = LazyLock::new(|| Keyring::parse(&format!("k:{}", "5a".repeat(32))).expect("keys"));
static TENANT: LazyLock<Tenant> = LazyLock::new(|| Tenant::parse("demo").expect("a tenant"));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::with_secret(&"s".repeat(32), expected()));

fn expected() -> Expected {
    Expected { audience: "aside".into(), issuer: None }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match choice % 8 {
        // An entry, as it is found in Redis once it is opened.
        0 => {
            let _ = codec::decode(&Product::key(1), data);
            let _ = codec::decode(&Key::<ProductPage>::shared(&[&1]), data);
            let _ = codec::decode(&Order::key(&TENANT, 1), data);
            let _ = codec::decode(&Key::<OrderPage>::tenant(&TENANT, &[&1]), data);
        }
        // A sealed entry.
        1 => {
            let secret = [7; 32];
            assert!(KEYS.open(&secret, b"place", data).is_err(), "a forgery was opened");
            let sealed = KEYS.seal(&secret, b"place", data).expect("it is sealed");
            assert_eq!(KEYS.open(&secret, b"place", &sealed).as_deref(), Ok(data));
            assert!(KEYS.open(&secret, b"elsewhere", &sealed).is_err());
        }
        // Keys as somebody configured them.
        2 => drop(Keyring::parse(&text)),
        // A consistency token, a cursor.
        3 => {
            let _ = text.parse::<ConsistencyToken>();
            for list in [ListKind::Products, ListKind::Orders] {
                let _ = PageRequest::parse(list, Some(20), Some(&text));
            }
        }
        // Segments of keys: different ones never meet in one name.
        4 => {
            let (a, b) = data.split_at(data.len() / 2);
            let [a, b] = [a, b].map(String::from_utf8_lossy);
            let (two, one) = (Name::shared("p", &[&a, &b]), Name::shared("p", &[&format!("{a}{b}")]));
            assert_ne!(two, one);
            assert_eq!(two == Name::shared("p", &[&b, &a]), a == b);
            let _ = is_name(&text);
        }
        // A bearer token: nobody here has the secret.
        5 => assert!(!VERIFIER.believes(&text), "a forgery was believed"),
        // A set of public keys.
        6 => drop(Verifier::with_key_set(&text, expected())),
        // A file of the audit.
        _ => drop(audit::verify(data, None)),
    }
});
