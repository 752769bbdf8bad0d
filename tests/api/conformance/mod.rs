//! HTTP by the letter: one table for each topic. Each row names the section that asks for it, what is sent, byte for byte, and what
//! must be answered. All rows together are docs/http-conformance.md.

mod authentication;
mod bodies;
mod caching;
mod documents;
mod hosts_and_targets;
mod methods;
mod page;
mod preflights;
mod table;
mod tokens;
