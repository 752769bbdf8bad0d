//! The whole suite as one test binary, because linking takes most of the time of a debug test run.
//!
//! `support` is the template to copy. `api` tests the service as its HTTP clients see it.
//! `contract` checks the promises of the tree itself: layers, documents and drift. `mutants` tests
//! the tool of mutation testing. The cache, the model and the checker have tests of their own, in
//! their packages.
//!
//! `tests/README.md` explains how to use them.

mod api;
mod contract;
#[path = "mutants/tool/mod.rs"]
mod mutants;
mod support;
