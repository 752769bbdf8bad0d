//! The spans of the cache, for traces: they are made only while somebody wants their target. They name key patterns, never keys.

use tracing::{Span, field::Empty, info_span};

use super::outcome::Outcome;

/// A read. Its outcome is said when it has ended.
pub(super) fn read(pattern: &'static str) -> Span {
    info_span!(target: "spans", "cache read", cache.pattern = pattern, cache.outcome = Empty, cache.tier = Empty)
}

/// How a read ended.
pub(super) fn ended(read: &Span, outcome: Outcome) {
    if !read.is_disabled() {
        read.record("cache.outcome", outcome.as_str());
        read.record("cache.tier", outcome.tier());
    }
}

/// A call of a loader, which is one statement of the database.
pub(super) fn load(pattern: &'static str) -> Span {
    info_span!(target: "spans", "load", otel.kind = "client", db.system.name = "postgresql", cache.pattern = pattern)
}

/// A call of L2.
pub(super) fn l2(store: &'static str, operation: &'static str) -> Span {
    info_span!(target: "spans", "L2", otel.kind = "client", db.system.name = store, db.operation.name = operation)
}

/// The end of a write: so many numbers are raised, and the transaction is committed.
pub(super) fn commit(names: usize) -> Span {
    info_span!(target: "spans", "commit", otel.kind = "client", db.system.name = "postgresql", cache.names = names)
}
