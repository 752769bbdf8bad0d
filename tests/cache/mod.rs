//! The contract of the cache itself, on a real Postgres and over every backend of L2. The backends
//! are none, the in-memory double, a real Redis, and a real Memcached where `MEMCACHED_BIN` names
//! one.
//!
//! The contract uses no code of the service, so a team that copies `src/cache` copies this folder
//! too.

mod batches;
mod bench;
mod faults;
mod freshness;
mod guards;
mod hints;
mod interleavings;
mod leases;
mod lifetimes;
mod masses;
mod memcached;
mod merging;
mod monitor;
mod refused_connections;
mod residency;
mod single_flight;
mod tiers;
mod warming;
mod writes;
