//! How an instance under test is set up.

use std::{sync::Arc, time::Duration};

use invoices::{
    cache::{CacheConfig, Keyring, L2, RedisL2},
    domain,
};

/// What instances seal with. Everybody may know it.
pub const KEYS: &str = "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Patience instead of speed: a busy machine must not turn an expected hit into a load because the floors are not current.
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
