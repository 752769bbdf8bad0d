//! Pauses of the run's script.

use std::time::Duration;

pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

pub fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
