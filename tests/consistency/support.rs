//! The code that the checker shares with the test suite.
#![allow(dead_code)]

#[path = "../support/environment.rs"]
pub mod environment;
#[path = "../support/eventually.rs"]
pub mod eventually;
#[path = "../support/postgres_server.rs"]
pub mod postgres_server;
#[path = "../support/process.rs"]
pub mod process;
#[path = "../support/proxy.rs"]
pub mod proxy;

#[path = "../support/redis_nodes.rs"]
pub mod redis_nodes;
#[path = "../support/redis_server.rs"]
pub mod redis_server;

pub use eventually::{eventually, within};
