//! How the service ends: the signal that asks for it, and the time it may take. The order of the steps is written where they
//! are made, at `App::run_until`. A second signal ends the process at once.

use std::{future::Future, io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels. The second one ends the process there and then, with the status that a
/// shell shows for the signal.
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
                tracing::warn!(signal = name, "asked to stop a second time: ending at once");
                std::process::exit(128 + number);
            }
            tracing::info!(signal = name, "asked to stop: draining");
            token.cancel();
        }
    });
    Ok(asked)
}

/// The time that a shutdown has left. Each step gets what there is, less what is kept for the steps after it, so that one that
/// hangs can neither take theirs nor make the whole longer.
pub struct ShutdownBudget {
    end: Instant,
    total: Duration,
}

impl ShutdownBudget {
    /// Starts now.
    pub fn start(total: Duration) -> Self {
        Self { end: Instant::now() + total, total }
    }

    /// Does one step; leaves it where `percent` of the whole time is all that is left. Whether it was finished.
    pub async fn step(&self, name: &'static str, keep_percent: u32, work: impl Future<Output = ()>) -> bool {
        let begun = Instant::now();
        let limit = self.end - self.total * keep_percent / 100;
        let finished = tokio::time::timeout_at(limit, work).await.is_ok();
        let took_ms = begun.elapsed().as_millis() as u64;
        if finished {
            tracing::info!(step = name, took_ms, "shutdown step done");
        } else {
            tracing::warn!(step = name, took_ms, "shutdown step cut off: its time is over");
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
