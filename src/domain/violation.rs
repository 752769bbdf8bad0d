//! Broken rules of input: which field, which rule. Rules are pure functions that report every violation, not only the first,
//! so that a client mends a request in one go.

use super::error::DomainError;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where: a JSON Pointer into the body (`/items/2/quantity`), or the name of a query parameter (`limit`).
    pub field: String,
    /// The rule, as a sentence about the field: `must be between 1 and 100`.
    pub rule: String,
}

impl Violation {
    /// Says that `field` breaks `rule`.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

/// Ends an examination: all is well, or all violations as one error.
pub fn examined(violations: Vec<Violation>) -> Result<(), DomainError> {
    if violations.is_empty() { Ok(()) } else { Err(DomainError::Invalid(violations)) }
}

/// A text that people read: 1 to `longest` characters, none of them a control character, no space at either end.
pub fn text(field: &str, value: &str, longest: usize, violations: &mut Vec<Violation>) {
    let length = value.chars().count();
    if !(1..=longest).contains(&length) {
        violations.push(Violation::new(field, format!("must have 1 to {longest} characters")));
    }
    if value.chars().any(char::is_control) {
        violations.push(Violation::new(field, "must not contain control characters"));
    }
    if value.trim().len() != value.len() && length > 0 {
        violations.push(Violation::new(field, "must not begin or end with a space"));
    }
}

/// A whole number within bounds, both included.
pub fn between(field: &str, value: i64, least: i64, most: i64, violations: &mut Vec<Violation>) {
    if !(least..=most).contains(&value) {
        violations.push(Violation::new(field, format!("must be between {least} and {most}")));
    }
}

/// An id: ids are positive.
pub fn id(field: &str, value: i64, violations: &mut Vec<Violation>) {
    if value < 1 {
        violations.push(Violation::new(field, "must be a positive integer"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_by(value: &str) -> Vec<String> {
        let mut violations = Vec::new();
        text("/name", value, 5, &mut violations);
        violations.into_iter().map(|v| v.rule).collect()
    }

    #[test]
    fn a_text_is_counted_in_characters_not_bytes() {
        assert!(broken_by("äöüßé").is_empty());
        assert_eq!(broken_by("äöüßéx"), ["must have 1 to 5 characters"]);
    }

    #[test]
    fn every_broken_rule_of_a_text_is_named() {
        assert_eq!(broken_by(""), ["must have 1 to 5 characters"]);
        assert_eq!(broken_by("a\0b"), ["must not contain control characters"]);
        assert_eq!(broken_by(" long name").len(), 2);
    }
}
