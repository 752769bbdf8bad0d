//! The pauses of a run's script.

use std::time::Duration;

pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

pub fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Runs a function that blocks its thread, such as waiting for a process. The run's other tasks
/// continue.
pub fn blocking<R>(work: impl FnOnce() -> R) -> R {
    tokio::task::block_in_place(work)
}
