//! L3: a shared HTTP cache, a Varnish or a CDN, in front of the service. `tags.rs` says in each catalogue answer what it depends on,
//! `purger.rs` tells the cache what to forget, driven by the ledger and not by requests.
//!
//! Promised: every committed change is purged once the shared cache can be reached, whoever made it and whatever was down meanwhile; an
//! answer that was on its way when its change was committed is purged too; no request waits for a purge. Not promised: that what a shared
//! cache holds is fresh before it has been told. docs/l3.md has the whole of it.

mod backlog;
mod cursor;
mod endpoint;
mod metrics;
mod purger;
mod tags;

pub use endpoint::{Endpoint, EndpointError};
pub use metrics::PurgeMetrics;
pub use purger::Purger;
pub use tags::{SurrogateKeys, Tagged};
