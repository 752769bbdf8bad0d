//! The outcomes of the requests of a run.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

/// Answers by status. Status 0 is a request without an answer.
#[derive(Default)]
pub struct Outcomes(BTreeMap<u16, Answers>);

#[derive(Default)]
struct Answers {
    micros: Vec<u32>,
    /// When the last answer came.
    last: Duration,
    /// When each answer came, in microseconds since the beginning of the run.
    moments: Vec<u64>,
}

impl Outcomes {
    /// Records an answer with its time of arrival and its duration.
    pub fn record(&mut self, at: Duration, took: Duration, status: Option<u16>) {
        let answers = self.0.entry(status.unwrap_or_default()).or_default();
        answers.micros.push(took.as_micros() as u32);
        answers.moments.push(at.as_micros() as u64);
        answers.last = answers.last.max(at);
    }

    /// Counts, rates and times by status. A rate counts the answers until the end of the run's
    /// time. If all requests were answered before, it counts until the last answer.
    pub fn into_json(mut self, lasting: Duration) -> Value {
        let last = self.0.values().map(|answers| answers.last).max().unwrap_or_default();
        let window = last.min(lasting);
        let mut by_status = serde_json::Map::new();
        for (status, answers) in &mut self.0 {
            answers.micros.sort_unstable();
            let in_time = answers.moments.iter().filter(|moment| u128::from(**moment) <= window.as_micros()).count();
            let quantile = |part: f64| answers.micros[(part * (answers.micros.len() - 1) as f64).round() as usize];
            by_status.insert(
                status.to_string(),
                json!({
                    "count": answers.micros.len(),
                    "rate": in_time as f64 / window.as_secs_f64(),
                    "p50": quantile(0.5),
                    "p99": quantile(0.99),
                    "max": quantile(1.0),
                }),
            );
        }
        json!({ "seconds": window.as_secs_f64(), "status": by_status })
    }
}
