//! Violations of input rules: the field and the rule. Rules are pure functions that report every
//! violation, so a client can correct a request at once.

use super::error::DomainError;

/// The highest id: the largest integer that JavaScript distinguishes from its neighbours.
pub const MAX_ID: i64 = (1 << 53) - 1;

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// A JSON Pointer into the body (`/items/2/quantity`), or the name of a query parameter
    /// (`limit`).
    pub field: String,
    /// The rule, as a sentence about the field: `must be between 1 and 100`.
    pub rule: String,
}

impl Violation {
    /// Creates a violation of `rule` by `field`.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

/// Ends a validation: success, or all violations as one error.
pub fn into_result(violations: Vec<Violation>) -> Result<(), DomainError> {
    if violations.is_empty() { Ok(()) } else { Err(DomainError::Invalid(violations)) }
}

/// Validates a text that people read. It must have 1 to `longest` characters, and at least one of
/// them must be visible. It must not contain characters that change how others are displayed, and
/// no space at either end.
pub fn text(field: &str, value: &str, longest: usize, violations: &mut Vec<Violation>) {
    let length = value.chars().count();
    if !(1..=longest).contains(&length) {
        violations.push(Violation::new(field, format!("must have 1 to {longest} characters")));
    }
    if value.chars().any(char::is_control) {
        violations.push(Violation::new(field, "must not contain control characters"));
    }
    if value.chars().any(misleads) {
        violations
            .push(Violation::new(field, "must not contain characters that change how the text around them is shown"));
    }
    if length > 0 && value.chars().all(is_invisible) {
        violations.push(Violation::new(field, "must contain a character that can be seen"));
    }
    if value.trim().len() != value.len() && length > 0 {
        violations.push(Violation::new(field, "must not begin or end with a space"));
    }
}

/// Returns whether a character reverses or hides its neighbours. Examples are line and paragraph
/// separators, overrides and isolates of the writing direction, interlinear annotations, the byte
/// order mark, and tags. Marks that some scripts need inside of words are allowed.
fn misleads(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Returns whether a character is invisible: a space, or a character that Unicode lets programs
/// ignore.
fn is_invisible(c: char) -> bool {
    let ignorable = matches!(c, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FFA0}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0080}'..='\u{E0FFF}');
    c.is_whitespace() || c.is_control() || misleads(c) || ignorable
}

/// Validates an integer within bounds, both included.
pub fn between(field: &str, value: i64, least: i64, most: i64, violations: &mut Vec<Violation>) {
    if !(least..=most).contains(&value) {
        violations.push(Violation::new(field, format!("must be between {least} and {most}")));
    }
}

/// Validates an id. Ids are positive, and JavaScript can represent them.
pub fn id(field: &str, value: i64, violations: &mut Vec<Violation>) {
    between(field, value, 1, MAX_ID, violations);
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

    #[test]
    fn a_text_can_be_seen_and_shows_itself_as_it_is() {
        let unseen = ["\u{200B}", "\u{3164}", "\u{2060}\u{AD}", "\u{2800}", "\u{FE0F}", "\u{115F}"];
        for text in unseen {
            assert_eq!(broken_by(text), ["must contain a character that can be seen"], "{text:?}");
        }
        for text in ["a\u{202E}b", "\u{FEFF}x", "x\u{E0041}", "a\u{2066}b", "a\u{2028}b"] {
            assert_eq!(broken_by(text), ["must not contain characters that change how the text around them is shown"]);
        }
        // The samples are joiners in Persian and in emoji, a soft hyphen, a combining mark, and a
        // replacement character.
        for text in ["می\u{200C}خو", "👩\u{200D}👧", "❤\u{FE0F}", "a\u{AD}b", "e\u{301}", "A\u{FFFD}B"] {
            assert!(broken_by(text).is_empty(), "{text:?}");
        }
    }
}
