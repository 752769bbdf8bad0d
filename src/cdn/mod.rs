//! L3: a shared HTTP cache, a Varnish or a CDN, in front of the service. `tags.rs` adds to each
//! catalogue answer the tags on which it depends. `purger.rs` purges the shared cache, driven by
//! the ledger and not by requests.
//!
//! Every committed change is purged once the shared cache is reachable, no matter which client made
//! it and which parts were down. An answer that was in flight when its change was committed is
//! purged too. No request waits for a purge. A shared cache may serve outdated answers until it has
//! been purged. docs/l3.md explains the details.

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
