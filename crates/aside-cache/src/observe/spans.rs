//! The spans of the cache for traces. They are only made while their target is enabled. They
//! contain key patterns, never keys.

use tracing::{Span, field::Empty, info_span};

use crate::outcome::Outcome;

/// A read. Its outcome is recorded when it ends.
pub(crate) fn read(pattern: &'static str) -> Span {
    info_span!(target: "spans", "cache read", cache.pattern = pattern, cache.outcome = Empty, cache.tier = Empty)
}

/// Records the outcome of a read.
pub(crate) fn ended(read: &Span, outcome: Outcome) {
    if !read.is_disabled() {
        read.record("cache.outcome", outcome.as_str());
        read.record("cache.tier", outcome.tier());
    }
}

/// A call of a loader, which is one statement of the database.
pub(crate) fn load(pattern: &'static str) -> Span {
    info_span!(target: "spans", "load", otel.kind = "client", db.system.name = "postgresql", cache.pattern = pattern)
}

/// A call of L2.
pub(crate) fn l2(store: &'static str, operation: &'static str) -> Span {
    info_span!(target: "spans", "L2", otel.kind = "client", db.system.name = store, db.operation.name = operation)
}

/// The end of a write: the versions of `names` tags rise, and the transaction is committed.
pub(crate) fn commit(names: usize) -> Span {
    info_span!(target: "spans", "commit", otel.kind = "client", db.system.name = "postgresql", cache.names = names)
}
