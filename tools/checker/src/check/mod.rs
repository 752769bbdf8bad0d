//! The rules that every answer of a run must satisfy. They are pure functions, and one pass checks
//! them. `known_bad_histories.rs` shows that each of them catches its violation.
//!
//! | rule | meaning |
//! |---|---|
//! | A1 | a body was committed with the version that it names: it is not mixed, not invented and not rolled back |
//! | A2 | after an instance acknowledged a write, it answers nothing older, also in a later process |
//! | A3 | an answer includes every write that was acknowledged at least D before the request began |
//! | A4 | after a write was acknowledged for the fleet, no instance answers anything older |
//! | A5 | an answer to a request with a token is not older than the answer that gave the token |
//! | A6 | an absence is answered only where the other rules permit that state |
//! | A7 | a page holds exactly the rows that belonged to it at one moment; A2 to A5 hold for each row, shown or not |
//! | A10 | an answer that is flagged as stale must satisfy only A1, A2, A5 and A7, and is never an absence |
//! | 5xx | the only permitted status is 503 |
//!
//! A8, A9 and A11 need more than a history. `report.rs` checks them.

pub mod history;
mod pages;
pub mod truth;

use history::{Ack, History, Key, Micros, Record, Sight, Told};
use truth::Truth;

/// An answer that breaks a rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// `A2`, or `A6 (A2)` when an absence breaks it.
    pub rule: String,
    pub why: String,
    /// The record of the answer.
    pub read: usize,
    /// The record of the write that requires a later state, if there is one.
    pub write: Option<usize>,
    pub key: Option<Key>,
}

/// The result of the check.
#[derive(Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// For each checked answer, how long it had been stale when its request began. 0 means that it
    /// was current.
    pub staleness: Vec<Micros>,
}

/// Applies every rule to every answer.
pub fn check(history: &History) -> Findings {
    let truth = Truth::of(history);
    let mut findings = Findings::default();
    for (at, record) in history.records.iter().enumerate() {
        Judge { history, truth: &truth, findings: &mut findings, at, record, stale_for: None }.judge();
    }
    findings
}

/// The form in which an answer mentions a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Value,
    Absence,
    /// A row of a page.
    Row,
    /// A page that does not show the row.
    Away,
}

/// Checks one record.
struct Judge<'h> {
    history: &'h History,
    truth: &'h Truth,
    findings: &'h mut Findings,
    at: usize,
    record: &'h Record,
    stale_for: Option<Micros>,
}

impl Judge<'_> {
    fn judge(mut self) {
        match &self.record.told {
            Told::Values(values) => {
                for (key, sight) in values {
                    self.value(*key, *sight);
                }
            }
            Told::Page { list, items, cut } => self.page(list, items, *cut),
            // A transaction of a direct writer may have changed no row.
            Told::Written(Ack::Transaction(_)) => {}
            Told::Written(ack) => {
                if self.truth.made(*ack).is_empty() {
                    self.convict("A1", format!("{ack:?} was acknowledged and is not in the database"), None, None);
                }
            }
            Told::VerifyError(what) => self.convict("5xx", what.clone(), None, None),
            Told::Refused | Told::Unavailable | Told::Lost => {}
        }
        self.findings.staleness.extend(self.stale_for);
    }

    fn value(&mut self, key: Key, sight: Option<Sight>) {
        match sight {
            Some(sight) => {
                if let Some(state) = self.committed(key, sight) {
                    self.fresh(key, state, View::Value);
                }
            }
            None => self.absence(key),
        }
    }

    /// Checks A1.
    fn committed(&mut self, key: Key, sight: Sight) -> Option<usize> {
        let state = self.truth.timeline(key).and_then(|timeline| timeline.state_of(sight));
        if state.is_none() {
            self.convict(
                "A1",
                format!("version {} with this body was never committed", sight.version),
                None,
                Some(key),
            );
        }
        let early = state.filter(|state| {
            let after = self.truth.timeline(key).map_or(0, |timeline| timeline.committed_after(*state));
            after > self.record.completed
        });
        if early.is_some() {
            self.convict("A1", "it was answered before it was committed".to_owned(), None, Some(key));
        }
        state
    }

    /// Checks A6.
    fn absence(&mut self, key: Key) {
        // The database never had a row with this key, so its absence is correct.
        let Some(timeline) = self.truth.timeline(key) else { return };
        if self.record.is_flagged() {
            self.convict("A10", "an absence was flagged as stale".to_owned(), None, Some(key));
        }
        match timeline.latest_without(None, self.record.completed) {
            Some(state) => self.fresh(key, state, View::Absence),
            None => self.convict("A6", "it has never been absent".to_owned(), None, Some(key)),
        }
    }

    /// Checks A2 to A5 for one row that an answer showed in one state.
    fn fresh(&mut self, key: Key, state: usize, view: View) {
        let (record, truth) = (self.record, self.truth);
        let Some(timeline) = truth.timeline(key) else { return };
        let stale_for = record.invoked.saturating_sub(timeline.overtaken(state));
        if !record.is_flagged() {
            self.stale_for = Some(self.stale_for.unwrap_or(0).max(stale_for));
        }
        let mut duties =
            timeline.duties(record.instance, view != View::Away, record.invoked, self.history.max_staleness).to_vec();
        duties.retain(|(rule, _)| *rule == "A2" || !record.is_flagged());
        duties.push(("A5", record.token_of.and_then(|given| self.seen_by(given, key).map(|seen| (seen, given)))));
        for (rule, duty) in duties {
            let Some((needed, write)) = duty.filter(|(needed, _)| *needed > state) else { continue };
            let rule = match view {
                View::Value => rule.to_owned(),
                View::Absence => format!("A6 ({rule})"),
                View::Row | View::Away => format!("A7 ({rule})"),
            };
            let name = |state: usize| match &timeline.states[state] {
                state if state.digest.is_some() => format!("version {}", state.version),
                state => format!("absence (version {})", state.version),
            };
            let age = stale_for as f64 / 1000.0;
            let why = format!("answered {} instead of {} or later, old for {age:.1} ms", name(state), name(needed));
            self.convict(&rule, why, Some(write), Some(key));
            return;
        }
    }

    /// The state in which an earlier answer showed a row, or which an earlier write made.
    fn seen_by(&self, given: usize, key: Key) -> Option<usize> {
        let record = &self.history.records[given];
        let timeline = self.truth.timeline(key)?;
        match &record.told {
            Told::Values(values) => match values.iter().find(|(seen, _)| *seen == key)? {
                (_, Some(sight)) => timeline.state_of(*sight),
                // The history does not say which absence the answer meant, so this requires
                // nothing.
                (_, None) => None,
            },
            Told::Page { items, .. } => {
                items.iter().find(|(seen, _)| *seen == key).and_then(|(_, sight)| timeline.state_of(*sight))
            }
            Told::Written(ack) => {
                self.truth.made(*ack).into_iter().find(|(made, _)| *made == key).map(|(_, state)| state)
            }
            _ => None,
        }
    }

    fn convict(&mut self, rule: &str, why: String, write: Option<usize>, key: Option<Key>) {
        self.findings.violations.push(Violation { rule: rule.to_owned(), why, read: self.at, write, key });
    }
}
