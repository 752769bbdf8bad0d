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
pub mod raw;
pub mod reply;
pub mod seed;
pub mod settings;
pub mod tokens;
pub mod verbs;
pub mod wire;

pub use aside_testkit::*;

pub use app::{Client, Instance, TestApp};
pub use builder::Redis;
pub use cdn::Cdn;
pub use child_process::ChildProcess;
pub use data::{order, product};
pub use database::SERVICE_ROLE;
pub use reply::Reply;
pub use wire::{Message, Speech, Stop};
