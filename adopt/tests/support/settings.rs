//! The settings of an instance under test.

use std::{sync::Arc, time::Duration};

use invoices::{
    cache::{CacheConfig, Keyring, L2, RedisL2},
    domain,
};

/// The encryption keys of the instances. They are not secret.
pub const KEYS: &str = "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Returns a configuration with long limits. Otherwise the floors could lose their currency on a
/// busy machine, and an expected hit would become a load.
pub fn config(redis_url: Option<&str>, namespace: &str) -> CacheConfig {
    let l2 = redis_url.map(|url| Arc::new(RedisL2::standalone(url).expect("the URL of Redis")) as Arc<dyn L2>);
    CacheConfig {
        namespace: namespace.to_owned(),
        keys: Some(Keyring::parse(KEYS).expect("keys")),
        l2,
        l2_deadline: Duration::from_secs(2),
        max_staleness: Duration::from_secs(60),
        policies: domain::policies(),
        ..CacheConfig::default()
    }
}
