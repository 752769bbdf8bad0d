//! The versions of a row that a write accepts, as its client's preconditions state them. They stop
//! a client from overwriting a change that it has not seen. They are versions of the service's own
//! rows, and not tag versions of the ledger.

/// The versions that a caller expects. The default accepts every version.
///
/// ```
/// use aside_cache::{ExpectedVersion, VersionConflict};
///
/// let expected = ExpectedVersion::one_of([6, 7]);
/// assert_eq!(expected.check(7), Ok(()));
/// assert_eq!(expected.check(8), Err(VersionConflict { current: 8 }));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedVersion {
    /// The current version must be one of these. `None` accepts any version.
    pub one_of: Option<Vec<i64>>,
    /// The current version must not be one of these.
    pub none_of: Vec<i64>,
    /// The row must not exist.
    pub absent: bool,
}

/// The current version is not one that the caller expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the version is {current} by now")]
pub struct VersionConflict {
    /// The version in the database.
    pub current: i64,
}

impl ExpectedVersion {
    /// Accepts any version.
    pub fn any() -> Self {
        Self::default()
    }

    /// Accepts only these versions.
    pub fn one_of(versions: impl Into<Vec<i64>>) -> Self {
        Self { one_of: Some(versions.into()), ..Self::default() }
    }

    /// Decides whether a row of the version `current` may be changed. The write calls this in its
    /// own transaction after it has locked the row, so the version can't change any more.
    ///
    /// # Errors
    /// Returns [`VersionConflict`] if the caller does not expect this version.
    pub fn check(&self, current: i64) -> Result<(), VersionConflict> {
        let is_allowed = self.one_of.as_ref().is_none_or(|versions| versions.contains(&current));
        if is_allowed && !self.absent && !self.none_of.contains(&current) {
            return Ok(());
        }
        Err(VersionConflict { current })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_expected_version_is_met() {
        let none_of = |versions: &[i64]| ExpectedVersion { none_of: versions.into(), ..ExpectedVersion::any() };
        let nothing = ExpectedVersion { absent: true, ..ExpectedVersion::any() };
        let cases = [
            (ExpectedVersion::any(), true),
            (ExpectedVersion::one_of([6, 7]), true),
            (ExpectedVersion::one_of([6]), false),
            (ExpectedVersion::one_of([]), false),
            (none_of(&[6]), true),
            (none_of(&[6, 7]), false),
            (nothing, false),
            (ExpectedVersion { none_of: vec![7], ..ExpectedVersion::one_of([7]) }, false),
        ];
        for (expected, is_met) in cases {
            assert_eq!(expected.check(7).is_ok(), is_met, "{expected:?}");
        }
        assert_eq!(ExpectedVersion::one_of([6]).check(7), Err(VersionConflict { current: 7 }));
    }
}
