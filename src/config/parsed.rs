//! Reading one setting. Parsing never fails at once: a value that breaks its rule is carried as such until all settings have
//! been read, so that `Settings::check` can report every wrong one together. Called by the definitions in `config`.

use std::{convert::Infallible, fmt::Display, ops::RangeInclusive, time::Duration};

/// What was given for one setting: the text, and what it means or the rule that it breaks.
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
    /// What it must be.
    pub rule: String,
    /// What it was; `None` when it was not given at all or is a secret.
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
    /// The meaning of a setting, or `None` and a note of what is wrong with it.
    pub fn take<T>(&mut self, name: &'static str, parsed: Parsed<T>) -> Option<T> {
        parsed.meaning.map_err(|rule| self.add(name, rule, Some(parsed.text))).ok()
    }

    /// Same for a setting that need not be there. Outer `None`: wrong; inner `None`: not given, or by an empty flag, which takes away
    /// what a variable says.
    pub fn take_optional<T>(&mut self, name: &'static str, parsed: Option<Parsed<T>>) -> Option<Option<T>> {
        match parsed.filter(|parsed| !parsed.text.is_empty()) {
            None => Some(None),
            Some(parsed) => self.take(name, parsed).map(Some),
        }
    }

    /// Same for a secret: what was given is never repeated.
    pub fn take_secret<T>(&mut self, name: &'static str, parsed: Option<Parsed<T>>) -> Option<Option<T>> {
        match parsed.filter(|parsed| !parsed.text.is_empty()) {
            None => Some(None),
            Some(parsed) => parsed.meaning.map_err(|rule| self.add(name, rule, None)).ok().map(Some),
        }
    }

    /// Notes a broken rule.
    pub fn add(&mut self, name: &'static str, rule: impl Into<String>, parsed: Option<String>) {
        self.0.push(ConfigError { name, rule: rule.into(), parsed });
    }
}

/// What clap wants of a value parser, with an error that can't happen.
pub trait Parser<T>: Fn(&str) -> Result<Parsed<T>, Infallible> + Clone + Send + Sync + 'static {}
impl<T, F: Fn(&str) -> Result<Parsed<T>, Infallible> + Clone + Send + Sync + 'static> Parser<T> for F {}

/// A value that `parse` understands; `rule` completes the sentence "NAME …".
pub fn rule<T>(rule: impl Into<String>, parse: fn(&str) -> Option<T>) -> impl Parser<T>
where
    T: 'static,
{
    let rule = rule.into();
    move |text: &str| Ok(Parsed { text: text.into(), meaning: parse(text).ok_or_else(|| rule.clone()) })
}

/// A whole number in a range.
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
