//! Refusals: the current data do not allow a write. They contain no HTTP.

use aside_cache::{Error, VersionConflict};

/// Why a write is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it does not exist")]
    NotFound,
    #[error("{0} is in use")]
    Taken(&'static str),
    #[error(transparent)]
    VersionConflict(#[from] VersionConflict),
    #[error("it can't go from {0} to {1}")]
    IllegalStep(String, String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}
