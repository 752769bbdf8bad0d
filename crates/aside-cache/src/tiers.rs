//! The tiers: L1 in this process, L2 in Redis or Memcached, and what guards against their failures.

pub(crate) mod breaker;
pub mod codec;
pub(crate) mod guard;
pub(crate) mod l1;
pub(crate) mod l2;
pub(crate) mod lease;
#[cfg(feature = "memcached")]
pub(crate) mod memcached;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod memory;
pub(crate) mod pressure;
#[cfg(feature = "redis")]
pub(crate) mod redis;
