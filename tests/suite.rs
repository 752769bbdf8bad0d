//! The whole suite as one test binary, because linking takes most of the time of a debug test run.
//!
//! `support` is the template to copy. `api` tests the service as its HTTP clients see it. `cache`
//! is the cache's own contract on real servers. `contract` checks the promises of the tree itself:
//! layers, documents and drift.
//!
//! `consistency` tests the rules of the consistency checker. `model` tests the protocol in every
//! order of its steps. `mutants` tests the tool of mutation testing. `examples` runs the programs
//! in the folder of that name.
//!
//! `tests/README.md` explains how to use them.

mod api;
mod cache;
#[path = "consistency/known_bad_histories.rs"]
mod consistency;
mod contract;
mod examples;
#[path = "consistency/model/mod.rs"]
mod model;
#[path = "mutants/tool/mod.rs"]
mod mutants;
mod support;
