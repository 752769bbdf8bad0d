//! The form of the file: one JSON object a line, each with its number and the SHA-256 of the line before it. Who changes or removes a
//! line must change all that follow; who cuts the end off is found by the head (number and hash of the last line) that the service logs.

use std::io::{self, BufRead};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Record;

/// The hash before the first line.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A record with its place in the chain.
#[derive(Serialize)]
pub(super) struct Link<'a> {
    pub(super) number: u64,
    /// SHA-256 of the line before.
    pub(super) previous: &'a str,
    /// Records that were lost just before this one.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) lost: u64,
    /// Whether the line before was broken off, by a crash or a full disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) after_torn: bool,
    #[serde(flatten)]
    pub(super) record: &'a Record,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is read of a line.
#[derive(Deserialize)]
pub(super) struct Place {
    pub(super) number: u64,
    previous: String,
    #[serde(default)]
    lost: u64,
    #[serde(default)]
    after_torn: bool,
}

/// The hash of a line, without its end.
pub(super) fn hash(line: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, line).as_ref() {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A file in which nothing was changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records in it.
    pub records: u64,
    /// Number of the first one; a file that was rotated goes on where the one before ended.
    pub first: u64,
    /// Hash before the first one: the head of the file before.
    pub before: String,
    /// Records that were lost, by its own words.
    pub lost: u64,
    /// Lines that were broken off.
    pub torn: u64,
    /// Number and hash of the last line, to be compared with what the service has logged.
    pub head: (u64, String),
}

/// Why a file is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("after line {0}: that line was changed, or lines were removed or put in")]
    Changed(u64),
    #[error("line {0} is no record, and the next one doesn't know of it")]
    NoRecord(u64),
    #[error("it holds no record")]
    Empty,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a file to its end.
///
/// # Errors
/// At the first line that isn't what was written.
pub fn verify(mut file: impl BufRead) -> Result<Verified, Broken> {
    let mut verified: Option<Verified> = None;
    let (mut line, mut at, mut torn) = (Vec::new(), 0, false);
    let mut last = None;
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        at += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let place: Option<Place> = serde_json::from_slice(&line).ok();
        if torn && !place.as_ref().is_some_and(|place| place.after_torn) {
            return Err(Broken::NoRecord(at - 1));
        }
        torn = place.is_none();
        let before = last.replace(hash(&line));
        let Some(Place { number, previous, lost, after_torn }) = place else { continue };
        let known = verified.get_or_insert_with(|| Verified {
            records: 0,
            first: number,
            before: previous.clone(),
            lost: 0,
            torn: 0,
            head: (number.wrapping_sub(1), String::new()),
        });
        let first = before.is_none() && number == 1;
        let before = before.or(first.then(|| NOTHING.to_owned()));
        if before.is_some_and(|before| before != previous) || number != known.head.0.wrapping_add(1) {
            return Err(Broken::Changed(at - 1));
        }
        known.records += 1;
        known.lost += lost;
        known.torn += u64::from(after_torn);
        known.head = (number, hash(&line));
    }
    let mut verified = verified.ok_or(Broken::Empty)?;
    // The last line may be broken off: the service was killed there.
    verified.torn += u64::from(torn);
    Ok(verified)
}
