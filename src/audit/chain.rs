//! The format of the file: one JSON object per line, with its number and the SHA-256 of the
//! previous line. A change or removal of a line therefore requires a change of all later lines. A
//! truncated file is detected by a [`Head`] that was stored elsewhere. The service writes its own
//! head to the log.

use std::{
    fmt,
    io::{self, BufRead},
    str::FromStr,
};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Record;

/// The hash before the first line.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A record with its position in the chain.
#[derive(Serialize)]
pub(super) struct Link<'a> {
    pub(super) number: u64,
    /// SHA-256 of the previous line.
    pub(super) previous: &'a str,
    /// The number of records that were lost just before this one.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) lost: u64,
    /// Whether a crash or a full disk left the previous line incomplete.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) after_torn: bool,
    #[serde(flatten)]
    pub(super) record: &'a Record,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The fields that are read from a line.
#[derive(Deserialize)]
pub(super) struct Place {
    pub(super) number: u64,
    previous: String,
    #[serde(default)]
    lost: u64,
    #[serde(default)]
    after_torn: bool,
}

/// The hash of a line without its newline.
pub(super) fn hash(line: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, line).as_ref() {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A position in a chain: the number and hash of a line, as `NUMBER:HASH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub number: u64,
    pub hash: String,
}

impl Head {
    /// The position before the very first record.
    pub fn start() -> Self {
        Self { number: 0, hash: NOTHING.to_owned() }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |text: &str| {
            let (number, hash) = text.split_once(':')?;
            let digits = hash.len() == NOTHING.len() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then_some(Self { number: number.parse().ok()?, hash: hash.to_ascii_lowercase() })
        };
        read(text).ok_or("must be the number of a record and its hash of 64 digits, as 7:0f3a…")
    }
}

/// The summary of a file in which nothing was changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The number of records in the file.
    pub records: u64,
    /// The head before the first record, which is the head of the previous file.
    pub before: Head,
    /// The number of lost records, as the file reports it.
    pub lost: u64,
    /// The number of incomplete lines.
    pub torn: u64,
    /// The position of the last record.
    pub head: Head,
    /// Whether the requested position is in the file or just before it.
    pub holds: bool,
}

/// The reason why a file differs from the one that was written.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("after line {0}: that line was changed, or lines were removed or put in")]
    Changed(u64),
    #[error("line {0} is no record, and the next one doesn't know of it")]
    NoRecord(u64),
    #[error("it holds no record")]
    Empty,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a file to its end and checks whether `known` is in it.
///
/// # Errors
/// At the first line that differs from the one that was written.
pub fn verify(mut file: impl BufRead, known: Option<&Head>) -> Result<Verified, VerifyError> {
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
            return Err(VerifyError::NoRecord(at - 1));
        }
        torn = place.is_none();
        let before = last.replace(hash(&line));
        let Some(Place { number, previous, lost, after_torn }) = place else { continue };
        let so_far = verified.get_or_insert_with(|| {
            let before = Head { number: number.wrapping_sub(1), hash: previous.clone() };
            let holds = known == Some(&before);
            Verified { records: 0, head: before.clone(), before, lost: 0, torn: 0, holds }
        });
        let first = before.is_none() && number == 1;
        let before = before.or(first.then(|| NOTHING.to_owned()));
        if before.is_some_and(|before| before != previous) || number != so_far.head.number.wrapping_add(1) {
            return Err(VerifyError::Changed(at - 1));
        }
        so_far.records += 1;
        so_far.lost += lost;
        so_far.torn += u64::from(after_torn);
        so_far.head = Head { number, hash: hash(&line) };
        so_far.holds |= known == Some(&so_far.head);
    }
    let mut verified = verified.ok_or(VerifyError::Empty)?;
    // The last line may be incomplete, because the service was killed while it wrote the line.
    verified.torn += u64::from(torn);
    Ok(verified)
}
