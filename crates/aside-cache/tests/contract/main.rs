//! The contract of the cache itself, on a real Postgres and over every backend of L2. The backends
//! are none, the in-memory double, a real Redis, and a real Memcached where `MEMCACHED_BIN` names
//! one.
//!
//! The contract uses no code of a service. `examples` runs the programs in the folder of that name.

mod batches;
mod bench;
mod comparison;
mod declarations;
mod dependencies;
mod embedding;
mod ends;
mod examples;
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
mod recorded;
mod refused_connections;
mod replication;
mod residency;
mod selects;
mod single_flight;
mod single_statements;
mod tiers;
mod tracking;
mod warming;
mod writes;
