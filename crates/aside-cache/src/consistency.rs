//! Keeps answers fresh: versions in the ledger, floors in this instance, the poller between
//! them, and the freshness rule in [`freshness`].

pub(crate) mod address;
pub(crate) mod changefeed;
pub(crate) mod clock_steps;
pub(crate) mod comparison;
pub(crate) mod floors;
pub(crate) mod freshness;
pub(crate) mod ledger;
pub(crate) mod monitor;
pub(crate) mod poller;
pub(crate) mod staleness;
pub(crate) mod token;
pub(crate) mod triggers;
