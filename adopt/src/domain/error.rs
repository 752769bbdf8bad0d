//! The errors of the domain.

use std::{io, sync::Arc};

use crate::cache::{LoadError, LoadFailure, WriteError, is_busy, is_conflict, is_unavailable};

/// A refusal or a failure. It is cheap to clone, because all callers that waited for one load get
/// the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DomainError {
    /// It does not exist, or it does not belong to this tenant.
    #[error("no {kind} {id}")]
    NotFound {
        /// The kind of the requested resource.
        kind: &'static str,
        /// The requested id.
        id: i64,
    },
    /// The database is healthy, but the work got no capacity in time.
    #[error("the database is busy")]
    Busy,
    /// The database did not answer. No connection could be opened, the connection broke, or the
    /// server can't serve the request at the moment.
    #[error("the database does not answer: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// The database rejected a statement, which is a defect of the service.
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
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
