//! The whole suite as one test binary: linking dominates the time of a debug test run.
//!
//! `cache` is the contract of `src/cache` on real servers, `invoices` the service that uses it, `support` what both stand on.

// The contract calls the crate that it tests by this name, so it is copied as it is.
extern crate invoices as aside;

mod cache;
mod invoices;
mod support;
