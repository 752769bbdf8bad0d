//! The run's own clock and its pauses. A pause is part of the script, such as the length of a
//! fault. It never replaces a check that could be polled.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::check::history::Micros;

/// A monotonic clock that counts from the beginning of the run.
#[derive(Clone, Copy)]
pub struct Clock {
    begun: Instant,
    /// The machine's time of day when the run began, in microseconds since 1970.
    time_of_day: i64,
}

impl Clock {
    pub fn start() -> Self {
        Self { begun: Instant::now(), time_of_day: time_of_day() }
    }

    pub fn now(&self) -> Micros {
        self.begun.elapsed().as_micros() as Micros
    }

    /// Converts a time of day to a moment of the run. Returns 0 for times before the run.
    pub fn moment(&self, time_of_day: i64) -> Micros {
        Micros::try_from(time_of_day - self.time_of_day).unwrap_or(0)
    }

    /// By how much the time of day was stepped since the run began.
    pub fn stepped(&self) -> Duration {
        Duration::from_micros((time_of_day() - self.time_of_day).abs_diff(self.now() as i64))
    }
}

fn time_of_day() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

pub fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Formats a moment in seconds of the run, such as `12.345`.
pub fn seconds(moment: Micros) -> String {
    format!("{:8.3}", moment as f64 / 1e6)
}
