//! The shutdown of the service: the signal that requests it, and its time limit. `App::run_until`
//! defines the order of the steps. A second signal ends the process at once.

use std::{future::Future, io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Returns a token that the first SIGTERM or SIGINT cancels. The second signal ends the process at
/// once, with the status that a shell shows for the signal.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked = CancellationToken::new();
    let token = asked.clone();
    tokio::spawn(async move {
        loop {
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 15),
                _ = interrupt.recv() => ("SIGINT", 2),
            };
            if token.is_cancelled() {
                tracing::warn!(signal = name, "second signal: stopping at once");
                std::process::exit(128 + number);
            }
            tracing::info!(signal = name, "stopping: draining requests");
            token.cancel();
        }
    });
    Ok(asked)
}

/// The remaining time of a shutdown. Each step gets the remaining time, less the share that is
/// reserved for later steps. A step that hangs thus can't take their time or prolong the shutdown.
pub struct ShutdownBudget {
    end: Instant,
    total: Duration,
}

impl ShutdownBudget {
    /// Starts the budget now.
    pub fn start(total: Duration) -> Self {
        Self { end: Instant::now() + total, total }
    }

    /// Runs one step until only `keep_percent` of the total time is left. It returns whether the
    /// step finished.
    pub async fn step(&self, name: &'static str, keep_percent: u32, work: impl Future<Output = ()>) -> bool {
        let begun = Instant::now();
        let limit = self.end - self.total * keep_percent / 100;
        let finished = tokio::time::timeout_at(limit, work).await.is_ok();
        let took_ms = begun.elapsed().as_millis() as u64;
        if finished {
            tracing::info!(step = name, took_ms, "shutdown step done");
        } else {
            tracing::warn!(step = name, took_ms, "shutdown step timed out");
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steps_that_hang_neither_take_the_time_of_later_steps_nor_make_the_whole_longer() {
        let begun = Instant::now();
        let budget = ShutdownBudget::start(Duration::from_secs(10));
        assert!(!budget.step("first", 30, pending()).await);
        assert_eq!(begun.elapsed().as_secs(), 7);
        assert!(budget.step("second", 10, ready(())).await);
        assert!(!budget.step("third", 0, pending()).await);
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
}
