//! The view from outside: counters, snapshots of them, spans, and exporters.

pub(crate) mod arrivals;
pub(crate) mod counters;
pub(crate) mod l2_metrics;
pub(crate) mod metrics;
#[cfg(feature = "prometheus")]
pub(crate) mod prometheus;
pub(crate) mod snapshot;
pub(crate) mod spans;
pub(crate) mod stats;
pub(crate) mod striped;
