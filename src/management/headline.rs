//! The sentence at the top of the live page: whether the promises hold, and which dependency is
//! down. Its colour is decided here too, so that a test can check both.

use std::time::Duration;

use serde::Serialize;

use super::history::{Dependency, Outage};
use crate::readiness::Phase;

/// How serious the state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// All is well.
    Good,
    /// The promises hold, with less speed or fewer instances.
    Warning,
    /// Clients notice, or a promise is broken.
    Bad,
}

/// The state of this instance in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Headline {
    state: Severity,
    /// For the title of the browser's tab.
    short: String,
    text: String,
    /// The effect on clients.
    meaning: String,
}

/// The facts of which the sentence tells.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub phase: Phase,
    /// Answers that were compared with the database.
    pub checked: u64,
    /// Answers among these that were older than promised.
    pub stale: u64,
    pub redis: Dependency,
    pub postgres: Dependency,
    /// The part of the last minute's reads that L1 answered.
    pub from_memory: Option<f64>,
}

impl Headline {
    /// The worst fact decides.
    pub fn new(facts: &Facts) -> Self {
        let told = |state, short: &str, text: String, meaning: &str| Self {
            state,
            short: short.to_owned(),
            text,
            meaning: meaning.to_owned(),
        };
        let (checked, stale) = (thousands(facts.checked), thousands(facts.stale));
        let compared = format!("{stale} of {checked} checked answers older than promised.");
        match (facts.phase, facts.postgres, facts.redis) {
            _ if facts.stale > 0 => told(
                Severity::Bad,
                "stale answers",
                format!("{compared} {}", dependencies(facts)),
                "A promise is broken. The runbook says what to check: AsideStaleServed.",
            ),
            (_, Dependency::Down(outage), redis) => {
                let both = if matches!(redis, Dependency::Down(_)) { "Postgres and Redis are" } else { "Postgres is" };
                told(
                    Severity::Bad,
                    "Postgres down",
                    format!("{both} unreachable {}: {}.", since(outage.lasts), split(outage)),
                    "Nothing counts as fresh without Postgres. Types that allow it are answered with stale values, \
                     each flagged. The rest gets 503.",
                )
            }
            (Phase::Starting, ..) => told(
                Severity::Warning,
                "starting",
                "Starting: the instance is warming its cache.".to_owned(),
                "It gets requests when it is ready.",
            ),
            (Phase::Draining, ..) => told(
                Severity::Warning,
                "shutting down",
                "Shutting down: requests in flight are finished.".to_owned(),
                "The other instances take over.",
            ),
            (_, _, Dependency::Down(outage)) => told(
                Severity::Warning,
                "Redis down",
                format!("Redis is unreachable {}: {} failed. {compared}", since(outage.lasts), reads(outage.failed)),
                "Every answer comes from memory or from Postgres, and is as fresh as before.",
            ),
            _ if facts.checked == 0 => told(
                Severity::Good,
                "no answers checked yet",
                format!("No answer has been checked yet. {}", dependencies(facts)),
                "A sample of the answers is compared with Postgres, a second after they were sent.",
            ),
            _ => told(
                Severity::Good,
                &format!("{stale} stale"),
                format!("{compared} {}", dependencies(facts)),
                "Redis is never trusted: Postgres decides which cached answer may be served.",
            ),
        }
    }
}

fn dependencies(facts: &Facts) -> String {
    let word = |name: &str, dependency| match dependency {
        Dependency::Up => format!("{name} up"),
        Dependency::Down(_) => format!("{name} down"),
        Dependency::Off => format!("no {name}"),
    };
    let redis = word("Redis", facts.redis);
    let redis = redis[..1].to_uppercase() + &redis[1..];
    let memory = facts.from_memory.map_or(String::new(), |part| format!(", {:.0} % from memory", 100.0 * part));
    // An instance that has not polled yet has not lost Postgres.
    let postgres = match facts.postgres {
        Dependency::Off => "Postgres not polled yet".to_owned(),
        known => word("Postgres", known),
    };
    format!("{redis}, {postgres}{memory}.")
}

/// Flagged and failed reads, apart.
fn split(outage: Outage) -> String {
    let flagged = if outage.flagged == 1 {
        "1 stale answer".to_owned()
    } else {
        format!("{} stale answers", thousands(outage.flagged))
    };
    format!("{flagged} flagged, {} failed", reads(outage.failed))
}

fn reads(count: u64) -> String {
    if count == 1 { "1 read".to_owned() } else { format!("{} reads", thousands(count)) }
}

fn since(lasts: Duration) -> String {
    match lasts.as_secs() {
        0 => "since now".to_owned(),
        seconds @ 1..120 => format!("for {seconds} s"),
        seconds => format!("for {} min", seconds / 60),
    }
}

/// A count with commas between thousands.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Facts = Facts {
        phase: Phase::Ready,
        checked: 2_572,
        stale: 0,
        redis: Dependency::Up,
        postgres: Dependency::Up,
        from_memory: Some(0.951),
    };

    fn down(seconds: u64, flagged: u64, failed: u64) -> Dependency {
        Dependency::Down(Outage { lasts: Duration::from_secs(seconds), flagged, failed })
    }

    #[test]
    fn the_worst_fact_decides_the_sentence_and_its_colour() {
        let cases = [
            (
                FINE,
                Severity::Good,
                "0 of 2,572 checked answers older than promised. Redis up, Postgres up, 95 % from memory.",
            ),
            (
                Facts { redis: Dependency::Off, from_memory: None, ..FINE },
                Severity::Good,
                "0 of 2,572 checked answers older than promised. No Redis, Postgres up.",
            ),
            (
                Facts { checked: 0, from_memory: None, ..FINE },
                Severity::Good,
                "No answer has been checked yet. Redis up, Postgres up.",
            ),
            (
                Facts { redis: down(20, 0, 0), ..FINE },
                Severity::Warning,
                "Redis is unreachable for 20 s: 0 reads failed. 0 of 2,572 checked answers older than promised.",
            ),
            (
                Facts { phase: Phase::Starting, ..FINE },
                Severity::Warning,
                "Starting: the instance is warming its cache.",
            ),
            (
                Facts { phase: Phase::Draining, ..FINE },
                Severity::Warning,
                "Shutting down: requests in flight are finished.",
            ),
            (
                Facts { postgres: down(185, 1_234, 1), ..FINE },
                Severity::Bad,
                "Postgres is unreachable for 3 min: 1,234 stale answers flagged, 1 read failed.",
            ),
            (
                Facts { postgres: down(0, 1, 0), redis: down(5, 1, 0), ..FINE },
                Severity::Bad,
                "Postgres and Redis are unreachable since now: 1 stale answer flagged, 0 reads failed.",
            ),
            (
                Facts { stale: 3, redis: down(1, 0, 0), ..FINE },
                Severity::Bad,
                "3 of 2,572 checked answers older than promised. Redis down, Postgres up, 95 % from memory.",
            ),
        ];
        for (facts, state, text) in cases {
            let told = Headline::new(&facts);
            assert_eq!((told.state, told.text.as_str()), (state, text));
        }
    }

    #[test]
    fn counts_are_written_with_commas() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(thousands(count), text);
        }
    }
}
