//! The error of reads and writes that need no error type of their own.

use std::sync::Arc;

use crate::{LoadError, LoadFailure, WriteError, is_conflict, is_unavailable};

/// Why a read or a write has no result. Clones are cheap, because every caller that waited for a
/// load gets the same error.
///
/// ```
/// use aside_cache::{Error, LoadFailure};
///
/// assert!(Error::from(LoadFailure::Overloaded).is_unavailable());
/// assert!(!Error::from(sqlx::Error::RowNotFound).is_unavailable());
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database refused a statement, or can't be reached: [`Error::is_unavailable`] tells them
    /// apart.
    #[error("{0}")]
    Database(Arc<sqlx::Error>),
    /// The load was not begun, or ended without a result.
    #[error("{0}")]
    Load(#[from] LoadFailure),
    /// Any other error, as it was returned by the work of a write.
    #[error("{0}")]
    Other(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an error of the work of a write, which depends on the data: a refusal.
    ///
    /// ```
    /// use aside_cache::Error;
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("only {0} left")]
    /// struct TooFew(i64);
    ///
    /// let refused = Error::other(TooFew(2));
    /// assert_eq!(refused.to_string(), "only 2 left");
    /// ```
    pub fn other(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Other(Arc::new(error))
    }

    /// Whether a later attempt may succeed, because the database can't be reached or has no time.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => is_unavailable(error),
            Self::Load(failure) => {
                matches!(failure, LoadFailure::Unreachable | LoadFailure::Overloaded | LoadFailure::TimedOut)
            }
            Self::Other(_) => false,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl LoadError for Error {
    fn is_unavailable(&self) -> bool {
        Error::is_unavailable(self)
    }
}

impl WriteError for Error {
    fn is_failure(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if is_conflict(error))
    }
}
