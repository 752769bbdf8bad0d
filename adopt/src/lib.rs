//! Invoices, cached by the pattern: the cache's tiers are in `cache`, what is cached is in `domain`.

pub mod cache;
pub mod database;
pub mod domain;
