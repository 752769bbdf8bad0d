//! The errors of the domain. They contain no HTTP: the edge turns each case into a problem and logs
//! it there once.

use std::{io, sync::Arc};

use aside_cache::{LoadError, LoadFailure, VersionConflict, WriteError, is_busy, is_conflict, is_unavailable};

use super::violation::Violation;

/// A refusal or a failure. It is cheap to clone, because all callers that waited for one load get
/// the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DomainError {
    /// The input breaks rules that can be checked without the data. The list is never empty.
    #[error("{} rule(s) of the input broken", .0.len())]
    Invalid(Vec<Violation>),
    /// It does not exist, or it does not belong to this tenant.
    #[error("no {kind} {id}")]
    NotFound {
        /// `product` or `order`.
        kind: &'static str,
        /// The requested id.
        id: i64,
    },
    /// The current version is not one of the versions that the caller accepts.
    #[error(transparent)]
    VersionConflict(#[from] VersionConflict),
    /// An item of a new order names a product that is not sold.
    #[error("unknown product {product_id}")]
    UnknownProduct {
        /// Index of the item in `items`.
        item: usize,
        /// The id that the item names.
        product_id: i64,
    },
    /// An item of a new order requests more units than are in stock.
    #[error("product {product_id}: only {available} in stock")]
    OutOfStock {
        /// Index of the item in `items`.
        item: usize,
        /// The product.
        product_id: i64,
        /// How many units are in stock.
        available: i32,
    },
    /// An order can't change from its status to the requested one.
    #[error("an order can't go from {from} to {to}")]
    IllegalTransition {
        /// Its status.
        from: &'static str,
        /// The requested status.
        to: &'static str,
    },
    /// The input breaks a rule that can only be checked against the data.
    #[error("{field} {rule}")]
    Rule {
        /// JSON Pointer to the member.
        field: String,
        /// The rule, as a sentence about the member.
        rule: String,
    },
    /// The idempotency key was used before with another payload.
    #[error("the idempotency key belongs to another payload")]
    IdempotencyMismatch,
    /// A request with the same idempotency key is still running.
    #[error("a request with this idempotency key is still at work")]
    IdempotencyInProgress,
    /// The database is healthy, but the work got no capacity in time. The limit of loads was
    /// reached, no connection was free, or other transactions held a lock for too long.
    #[error("the database is busy")]
    Busy,
    /// The database did not answer. No connection could be opened, the connection broke, or the
    /// server can't serve the request at the moment.
    #[error("the database does not answer: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// The database rejected a statement, which is a defect of the service.
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
    /// The caller wants no load, and no cache tier holds an answer that may be served.
    #[error("no cache tier holds an answer that may be served")]
    NotCached,
    /// The tenant's data may not be read in this region.
    #[error("not readable in this region")]
    OutOfRegion,
    /// The work ended without a result, because a write or a load panicked. The write is rolled
    /// back.
    #[error("the work panicked")]
    Panicked,
}

impl From<LoadFailure> for DomainError {
    fn from(failure: LoadFailure) -> Self {
        match failure {
            LoadFailure::Panicked | LoadFailure::NotRecorded => Self::Panicked,
            LoadFailure::WrongRegion => Self::OutOfRegion,
            LoadFailure::NotCached => Self::NotCached,
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
