//! What can go wrong in the domain. No HTTP in here: the edge turns each case into a problem, and logs it there once.

use std::{io, sync::Arc};

use super::violation::Violation;
use crate::cache::{LoadError, LoadFailure, WriteError, is_busy, is_conflict, is_unavailable};

/// A refusal or a failure. Cheap to clone: every caller that waited for one load gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DomainError {
    /// The input breaks rules that need no look at the data. Never empty.
    #[error("{} rule(s) of the input broken", .0.len())]
    Invalid(Vec<Violation>),
    /// There is no such thing, or not for this tenant.
    #[error("no {kind} {id}")]
    NotFound {
        /// `product` or `order`.
        kind: &'static str,
        /// The id asked for.
        id: i64,
    },
    /// None of the versions that the caller would accept is the current one.
    #[error("the version is {current} by now")]
    VersionConflict {
        /// The current version.
        current: i64,
    },
    /// A line of a new order names a product that is not sold.
    #[error("unknown product {product_id}")]
    UnknownProduct {
        /// Index of the line in `items`.
        item: usize,
        /// The id it names.
        product_id: i64,
    },
    /// A line of a new order asks for more than there is.
    #[error("product {product_id}: only {available} in stock")]
    OutOfStock {
        /// Index of the line in `items`.
        item: usize,
        /// The product.
        product_id: i64,
        /// How many there are.
        available: i32,
    },
    /// An order can't go from its status to that one.
    #[error("an order can't go from {from} to {to}")]
    IllegalTransition {
        /// Its status.
        from: &'static str,
        /// The status asked for.
        to: &'static str,
    },
    /// The input breaks a rule that could only be examined against the data.
    #[error("{field} {rule}")]
    Rule {
        /// JSON Pointer to the member.
        field: String,
        /// The rule, as a sentence about the member.
        rule: String,
    },
    /// The idempotency key was used before, with another payload.
    #[error("the idempotency key belongs to another payload")]
    IdempotencyMismatch,
    /// A request with the same idempotency key is still at work.
    #[error("a request with this idempotency key is still at work")]
    IdempotencyInProgress,
    /// The database is well but there was no room in time: as many loads under way as may be, no free connection, or a lock that
    /// others held for too long.
    #[error("the database is busy")]
    Busy,
    /// The database did not answer: no connection could be had, or it ended, or the server can't do now what it was asked.
    #[error("the database does not answer: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// The database refused a statement: a defect of the service.
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
    /// The tenant's data may not be read in this region.
    #[error("not readable in this region")]
    OutOfRegion,
    /// The work ended without a result: a write panicked and was rolled back, or a load did.
    #[error("the work panicked")]
    Panicked,
}

impl From<LoadFailure> for DomainError {
    fn from(failure: LoadFailure) -> Self {
        match failure {
            LoadFailure::Panicked => Self::Panicked,
            LoadFailure::WrongRegion => Self::OutOfRegion,
            LoadFailure::Overloaded | LoadFailure::TimedOut => Self::Busy,
            LoadFailure::Unreachable => sqlx::Error::Io(io::ErrorKind::NotConnected.into()).into(),
        }
    }
}

impl LoadError for DomainError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable(_))
    }
}

impl WriteError for DomainError {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable(_) | Self::Database(_) | Self::Panicked)
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Unavailable(error) | Self::Database(error) if is_conflict(error))
    }
}

impl From<sqlx::Error> for DomainError {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) {
            Self::Busy
        } else if is_unavailable(&error) {
            Self::Unavailable(Arc::new(error))
        } else {
            Self::Database(Arc::new(error))
        }
    }
}
