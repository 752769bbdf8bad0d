//! The whole suite as one test binary: linking dominates the time of a debug test run.
//!
//! `support` is the template to copy, `api` is the service as its HTTP clients see it, `cache` the cache's own contract on real
//! servers, `contract` what the tree itself promises (layers, documents, drift), `consistency` the rules of the consistency checker,
//! `model` the protocol in every order of its steps, `mutants` the tool of mutation testing, `examples` what stands in the folder of that name.
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
