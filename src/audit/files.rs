//! A chain over several files: each goes on where the one before ended, the first one where it must, and what was known of the chain is
//! still in it.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use super::chain::{Head, Verified, VerifyError, verify};

/// What files are compared with.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// Where the first file goes on; `None`: at the beginning of the chain.
    pub after: Option<Head>,
    /// A place that must be in the files: whatever was written up to it is still there.
    pub known: Option<Head>,
}

/// Why files are not the chain that they should be.
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

/// Verifies files, oldest first, and tells of each.
///
/// # Errors
/// At the first file that isn't what was written, or when the known place isn't in any of them.
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
