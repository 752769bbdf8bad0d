//! A chain that spans several files. Each file continues the chain of the previous one, the first
//! file begins at the required position, and the known position is still present.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use super::chain::{Head, Verified, VerifyError, verify};

/// The positions against which files are checked.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// The position after which the first file begins; `None` for the beginning of the chain.
    pub after: Option<Head>,
    /// A position that must be in the files, which proves that all records up to it still exist.
    pub known: Option<Head>,
}

/// The reason why files are not the expected chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("{0}: {1}")]
    Unverified(PathBuf, VerifyError),
    #[error(
        "{0}: it begins with record {1}: give the files before it too, or say by --after which head they ended with"
    )]
    NoBeginning(PathBuf, u64),
    #[error("{0}: it doesn't go on where the file before ends, or where --after says")]
    NoContinuation(PathBuf),
    #[error("the head {known} is not in these files, which end with record {last}: {}", reason(known, *last))]
    NotHeld { known: Head, last: u64 },
}

fn reason(known: &Head, last: u64) -> &'static str {
    if known.number > last { "the end was cut off" } else { "that record is another one, or before them" }
}

/// Verifies files, oldest first, and reports each.
///
/// # Errors
/// At the first file that differs from the one that was written, or when the known position is in
/// none of them.
pub fn verify_files(files: &[PathBuf], span: &Span, mut tell: impl FnMut(&Path, &Verified)) -> Result<(), ChainError> {
    let mut place = span.after.clone().unwrap_or_else(Head::start);
    let mut holds = span.known.is_none();
    for (at, path) in files.iter().enumerate() {
        let broken = |error| ChainError::Unverified(path.clone(), error);
        let file = File::open(path).map_err(|error| broken(error.into()))?;
        let verified = verify(BufReader::new(file), span.known.as_ref()).map_err(broken)?;
        if verified.before != place {
            let begins_later = at == 0 && span.after.is_none();
            return Err(match begins_later {
                true => ChainError::NoBeginning(path.clone(), verified.before.number.wrapping_add(1)),
                false => ChainError::NoContinuation(path.clone()),
            });
        }
        tell(path, &verified);
        holds |= verified.holds;
        place = verified.head;
    }
    match &span.known {
        Some(known) if !holds => Err(ChainError::NotHeld { known: known.clone(), last: place.number }),
        _ => Ok(()),
    }
}
