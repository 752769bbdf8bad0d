//! The whole suite as one test binary, because linking takes most of the time of a debug test run.
//!
//! `cache` is the contract of `src/cache` on real servers. `invoices` tests the service that uses
//! it. `support` holds the code that both share.

// The contract calls the tested crate by this name, so its files are copied unchanged.
extern crate invoices as aside;

mod cache;
mod invoices;
mod support;
