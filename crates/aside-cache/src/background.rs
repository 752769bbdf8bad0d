//! The work of a cache beside its callers, and its end.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The background work of one cache. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Runs work that has an end, such as a fill. The shutdown waits for it.
    pub(crate) fn finish(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Runs work without an end until the shutdown.
    pub(crate) fn follow(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// The signal of the shutdown.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Stops the work without an end, and waits for the rest.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
