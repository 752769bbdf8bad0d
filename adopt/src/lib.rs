//! Invoices, cached by the pattern. The cache's tiers are in `cache`, and the cached data is in
//! `domain`.

pub mod cache;
pub mod database;
pub mod domain;
