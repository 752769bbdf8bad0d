//! What can go wrong in the domain.

use std::sync::Arc;

use crate::cache::{LoadError, NotLoaded, WriteError};

/// A refusal or a failure. Cheap to clone: every caller that waited for one load gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DomainError {
    /// There is no such thing, or not for this tenant.
    #[error("no {kind} {id}")]
    NotFound {
        /// What was asked for.
        kind: &'static str,
        /// The id asked for.
        id: i64,
    },
    /// The database is well but there was no room in time.
    #[error("the database is busy")]
    Busy,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
    /// The tenant's data may not be read in this region.
    #[error("not readable in this region")]
    Abroad,
    /// The work ended without a result: a write panicked and was rolled back, or a load did.
    #[error("the work panicked")]
    Panicked,
}

/// Postgres' codes for "no room in time": a lock timeout, a statement timeout, too many connections.
const BUSY: [&str; 3] = ["55P03", "57014", "53300"];

/// Postgres' codes for "others were in the way, the same work again may succeed": deadlock, serialization failure.
const CONFLICT: [&str; 2] = ["40P01", "40001"];

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| codes.contains(&code.as_ref()))
}

impl From<NotLoaded> for DomainError {
    fn from(not_loaded: NotLoaded) -> Self {
        match not_loaded {
            NotLoaded::Aborted => Self::Panicked,
            NotLoaded::Abroad => Self::Abroad,
            NotLoaded::Crowded | NotLoaded::Late => Self::Busy,
        }
    }
}

impl LoadError for DomainError {
    fn is_outage(&self) -> bool {
        matches!(self, Self::Busy | Self::Database(_))
    }
}

impl WriteError for DomainError {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Busy | Self::Database(_) | Self::Panicked)
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if has_code(error, &CONFLICT))
    }
}

impl From<sqlx::Error> for DomainError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) || has_code(&error, &BUSY) {
            Self::Busy
        } else {
            Self::Database(Arc::new(error))
        }
    }
}
