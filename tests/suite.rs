//! The whole suite as one test binary: linking dominates the time of a debug test run.
//!
//! `support` is the template to copy, `api` is the service as its HTTP clients see it, `cache` the cache's own contract on real
//! servers, `model` the protocol in every order of its steps, `contract` what the tree itself promises (layers, documents, drift).
//! `tests/README.md` explains how to use them.

mod api;
mod cache;
mod contract;
#[path = "consistency/model/mod.rs"]
mod model;
mod support;
