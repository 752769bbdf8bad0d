//! Pauses of the run's script.

use std::time::Duration;

pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

pub fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Does what blocks its thread, such as waiting for a process, without holding up the run's other tasks.
pub fn blocking<R>(work: impl FnOnce() -> R) -> R {
    tokio::task::block_in_place(work)
}
