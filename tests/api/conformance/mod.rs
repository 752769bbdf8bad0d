//! Conformance to the specifications of HTTP, with one table for each topic. Each row names the
//! section of a specification, the request byte for byte, and the required answer. All rows
//! together form docs/http-conformance.md.

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
