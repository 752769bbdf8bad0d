//! Stands in for `keyring.rs` in a build without the feature `encryption`. No keyring exists then,
//! so entries in L2 are not sealed, and personal data stay out of L2.

use crate::{key::Tag, protect::keys::Secret};

/// The keys of one process. Without the feature `encryption` there are none.
#[derive(Debug)]
pub enum Keyring {}

/// The error of an entry that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("there are no keys")]
pub(crate) struct DecryptError;

impl Keyring {
    pub(crate) fn seal(&self, _secret: &Secret, _place: &[u8], _plain: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn open(&self, _secret: &Secret, _place: &[u8], _sealed: &[u8]) -> Result<Vec<u8>, DecryptError> {
        match *self {}
    }

    pub(crate) fn drop_keys(&self, _secret: &Secret) {
        match *self {}
    }
}

/// Personal data have no place in L2.
pub(crate) fn hashed(_secret: &Secret, _pattern: &str, _tag: &Tag) -> Option<String> {
    None
}
