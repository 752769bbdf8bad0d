//! JSON in its original form. Members keep their order, repeated members remain, and numbers are
//! compared by value instead of by spelling.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A number. JSON Schema calls `299.0` and `2.99e2` integers, and clients generated from the API
/// document do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Whole(i64),
    /// An integer that does not fit into 64 bits.
    Huge,
    Fraction,
}

/// Parses a value as a number; `None` if it is not a number.
pub fn number(value: &RawValue) -> Option<Number> {
    let text = value.get();
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |unsigned| ("-", unsigned));
    if !unsigned.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    // The number is `significant`, followed by `zeros` zeros, or less `cut` digits.
    let significant = digits.trim_end_matches('0');
    let zeros = digits.len().saturating_sub(significant.len() + part.len());
    let cut = part.len().saturating_sub(digits.len() - significant.len());
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some(Number::Whole(0));
    }
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
    let zeros = exponent.saturating_add(zeros as i64).saturating_sub(cut as i64);
    Some(match usize::try_from(zeros) {
        Err(_) => Number::Fraction,
        Ok(zeros) if zeros > 19 => Number::Huge,
        Ok(zeros) => {
            let text = format!("{sign}{significant}{}", "0".repeat(zeros));
            text.parse().map_or(Number::Huge, Number::Whole)
        }
    })
}

/// The members of an object.
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = given.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        use Number::{Fraction, Huge, Whole};
        for (text, expected) in [
            ("299", Whole(299)),
            ("299.0", Whole(299)),
            ("299.000", Whole(299)),
            ("2.99e2", Whole(299)),
            ("2.990E+2", Whole(299)),
            ("29900e-2", Whole(299)),
            ("-12.50e1", Whole(-125)),
            ("300", Whole(300)),
            ("0.3e3", Whole(300)),
            ("-0", Whole(0)),
            ("-0.0", Whole(0)),
            ("0e99999999999999999999", Whole(0)),
            ("9007199254740991.0", Whole((1 << 53) - 1)),
            ("9007199254740993.0", Whole((1 << 53) + 1)),
            ("9223372036854775807", Whole(i64::MAX)),
            ("-9223372036854775808", Whole(i64::MIN)),
            ("9223372036854775808", Huge),
            ("1e300", Huge),
            ("1e400", Huge),
            ("1e99999999999999999999", Huge),
            ("299.5", Fraction),
            ("2.995e2", Fraction),
            ("4503599627370497.5", Fraction),
            ("1e-3", Fraction),
            ("10e-2", Fraction),
            ("1e-99999999999999999999", Fraction),
        ] {
            let value: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!(number(value), Some(expected), "{text}");
        }
        for text in ["\"1\"", "true", "null", "[1]", "{}"] {
            let value: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!(number(value), None, "{text}");
        }
    }

    #[test]
    fn repeated_members_are_kept_in_their_order() {
        let Members(members) = serde_json::from_str(r#"{"b":1,"a":null,"b":[true]}"#).unwrap();
        assert_eq!(members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "a", "b"]);
    }
}
