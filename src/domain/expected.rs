//! The versions that a write accepts, as the client's preconditions state them.

use super::error::DomainError;

/// The versions that a caller expects. The default accepts every version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedVersion {
    /// The current version must be one of these. `None` accepts any version.
    pub one_of: Option<Vec<i64>>,
    /// The current version must not be one of these.
    pub none_of: Vec<i64>,
    /// The resource must not exist.
    pub absent: bool,
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

    /// Returns an error if the current version is not one that the caller expects. The write calls
    /// this in its own transaction after it has locked the row, so the version can't change any
    /// more.
    pub fn check(&self, current: i64) -> Result<(), DomainError> {
        let is_allowed = self.one_of.as_ref().is_none_or(|versions| versions.contains(&current));
        if is_allowed && !self.absent && !self.none_of.contains(&current) {
            return Ok(());
        }
        Err(DomainError::VersionConflict { current })
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
        let refused = ExpectedVersion::one_of([6]).check(7);
        assert!(matches!(refused, Err(DomainError::VersionConflict { current: 7 })), "{refused:?}");
    }
}
