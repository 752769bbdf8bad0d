//! What tests of a service with a cache need: real servers on free ports, a proxy that breaks
//! connections, gates that hold a transaction back, and waits without sleeping.
//!
//! Nothing here depends on the service or on the cache.

pub mod dependencies;
pub mod environment;
pub mod eventually;
pub mod gate;
pub mod memcached_server;
pub mod metrics;
pub mod pgbouncer;
pub mod postgres_server;
pub mod private_redis;
pub mod process;
pub mod proxy;
pub mod redis_keys;
pub mod redis_nodes;
pub mod redis_server;
pub mod temporary;
pub mod test_database;
pub mod tls;
pub mod together;
pub mod triggers;

pub use eventually::{PATIENCE, eventually, within};
pub use gate::Gate;
pub use memcached_server::MemcachedServer;
pub use proxy::{Fault, Proxy};
pub use redis_server::RedisServer;
pub use temporary::Temporary;
pub use test_database::TestDatabase;
pub use together::together;
