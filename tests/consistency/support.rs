//! What the checker shares with the test suite.
#![allow(dead_code)]

#[path = "../support/eventually.rs"]
pub mod eventually;
#[path = "../support/process.rs"]
pub mod process;
#[path = "../support/proxy.rs"]
pub mod proxy;

pub use eventually::{eventually, within};
