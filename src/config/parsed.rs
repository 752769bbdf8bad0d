//! Parses one setting. Parsing never fails at once. A value that breaks its rule is carried along
//! until all settings are read, so `Settings::check` can report all wrong ones together. The
//! definitions in `config` call this module.

use std::{convert::Infallible, fmt::Display, ops::RangeInclusive, time::Duration};

/// The value of one setting: its text, and its parsed value or the rule that it breaks.
#[derive(Clone)]
pub struct Parsed<T> {
    text: String,
    meaning: Result<T, String>,
}

/// A setting that breaks its rule.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the environment variable.
    pub name: &'static str,
    /// The rule for its value.
    pub rule: String,
    /// The rejected value; `None` if the setting was not given or is a secret.
    pub parsed: Option<String>,
}

/// All settings that break their rules.
#[derive(Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.len() {
            1 => write!(f, "one setting is wrong:")?,
            count => write!(f, "{count} settings are wrong:")?,
        }
        for ConfigError { name, rule, parsed } in &self.0 {
            write!(f, "\n  {name} {rule}")?;
            if let Some(parsed) = parsed {
                write!(f, " (given: {:?})", parsed.chars().take(80).collect::<String>())?;
            }
        }
        Ok(())
    }
}

impl ConfigErrors {
    /// Returns the parsed value of a setting. If it is wrong, it records the error and returns
    /// `None`.
    pub fn take<T>(&mut self, name: &'static str, parsed: Parsed<T>) -> Option<T> {
        parsed.meaning.map_err(|rule| self.add(name, rule, Some(parsed.text))).ok()
    }

    /// The same for an optional setting. The outer `None` means that the value is wrong. The inner
    /// `None` means that it was not given, or that an empty flag removed the variable's value.
    pub fn take_optional<T>(&mut self, name: &'static str, parsed: Option<Parsed<T>>) -> Option<Option<T>> {
        match parsed.filter(|parsed| !parsed.text.is_empty()) {
            None => Some(None),
            Some(parsed) => self.take(name, parsed).map(Some),
        }
    }

    /// The same for a secret, whose value is never repeated.
    pub fn take_secret<T>(&mut self, name: &'static str, parsed: Option<Parsed<T>>) -> Option<Option<T>> {
        match parsed.filter(|parsed| !parsed.text.is_empty()) {
            None => Some(None),
            Some(parsed) => parsed.meaning.map_err(|rule| self.add(name, rule, None)).ok().map(Some),
        }
    }

    /// Records a broken rule.
    pub fn add(&mut self, name: &'static str, rule: impl Into<String>, parsed: Option<String>) {
        self.0.push(ConfigError { name, rule: rule.into(), parsed });
    }
}

/// A value parser for clap, with an error that can't happen.
pub trait Parser<T>: Fn(&str) -> Result<Parsed<T>, Infallible> + Clone + Send + Sync + 'static {}
impl<T, F: Fn(&str) -> Result<Parsed<T>, Infallible> + Clone + Send + Sync + 'static> Parser<T> for F {}

/// A parser that accepts a value if `parse` does. `rule` completes the sentence "NAME …".
pub fn rule<T>(rule: impl Into<String>, parse: fn(&str) -> Option<T>) -> impl Parser<T>
where
    T: 'static,
{
    let rule = rule.into();
    move |text: &str| Ok(Parsed { text: text.into(), meaning: parse(text).ok_or_else(|| rule.clone()) })
}

/// An integer in a range.
pub fn number<T: TryFrom<u64> + 'static>(range: RangeInclusive<u64>) -> impl Parser<T> {
    bounded(range, "", |number| T::try_from(number).ok())
}

/// Milliseconds in a range.
pub fn milliseconds(range: RangeInclusive<u64>) -> impl Parser<Duration> {
    bounded(range, " milliseconds", |number| Some(Duration::from_millis(number)))
}

/// `true` or `false`.
pub fn switch() -> impl Parser<bool> {
    rule("must be true or false", |text| text.parse().ok())
}

fn bounded<T: 'static>(range: RangeInclusive<u64>, unit: &'static str, make: fn(u64) -> Option<T>) -> impl Parser<T> {
    move |text: &str| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let broken = || format!("must be a whole number from {} to {}{unit}", range.start(), range.end());
        Ok(Parsed { text: text.into(), meaning: number.and_then(make).ok_or_else(broken) })
    }
}
