//! Helpers that keep tests short: the real service on free ports, its servers, injected faults and
//! expectations.
//!
//! Nothing here depends on a rule of the product. A team that copies the folder changes `verbs.rs`,
//! `data.rs` and `settings.rs`.

pub mod app;
pub mod builder;
pub mod cdn;
pub mod child_process;
pub mod collector;
pub mod data;
pub mod database;
pub mod environment;
pub mod eventually;
pub mod gate;
pub mod memcached_server;
pub mod metrics;
pub mod wire;
// The consistency checker and the runs of `make chaos` share these modules. They use more of them
// than the suite does.
#[allow(dead_code)]
pub mod postgres_server;
#[allow(dead_code)]
pub mod process;
pub mod proxy;
pub mod raw;
pub mod redis_keys;
#[allow(dead_code)]
pub mod redis_nodes;
pub mod redis_server;
pub mod reply;
pub mod seed;
pub mod settings;
pub mod temporary;
pub mod tls;
pub mod together;
pub mod tokens;
pub mod triggers;
pub mod verbs;

pub use app::{Client, Instance, TestApp};
pub use builder::Redis;
pub use cdn::Cdn;
pub use child_process::ChildProcess;
pub use data::{order, product};
pub use eventually::{PATIENCE, eventually};
pub use gate::Gate;
pub use memcached_server::MemcachedServer;
pub use proxy::{Fault, Proxy};
pub use redis_server::RedisServer;
pub use reply::Reply;
pub use temporary::Temporary;
pub use together::together;
pub use wire::{Message, Speech, Stop};
