//! Helpers that keep tests short: real servers, injected faults and waiting without sleeps.

// The copied files contain more than this suite uses.
#![allow(dead_code)]

pub mod environment;
pub mod eventually;
pub mod fixture;
pub mod gate;
pub mod memcached_server;
pub mod process;
pub mod proxy;
pub mod redis_server;
pub mod settings;
pub mod together;
pub mod triggers;

pub use eventually::{PATIENCE, eventually};
pub use fixture::Fixture;
pub use gate::Gate;
pub use memcached_server::MemcachedServer;
pub use proxy::Proxy;
pub use redis_server::RedisServer;
pub use together::together;
