//! Warming on deployment: fills the tiers before the first request, under the same freshness rule
//! as other fills.

use std::{fmt::Display, future::Future, pin::Pin, time::Duration};

use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use crate::Cache;

type Warming = Pin<Box<dyn Future<Output = Result<usize, String>> + Send>>;

/// A list of warmers that run concurrently. A warmer that fails or is slow doesn't stop the others.
#[derive(Default)]
pub struct CacheWarmer(Vec<(&'static str, Warming)>);

/// The result of warming.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WarmingResult {
    /// Entries filled.
    pub warmed: usize,
    /// Warmers that failed or did not end in time.
    pub failed: usize,
    /// Milliseconds from start to end.
    pub duration_ms: u64,
    /// One report for each warmer.
    pub warmers: Vec<WarmerReport>,
}

/// The result of one warmer.
#[derive(Clone, Debug, Serialize)]
pub struct WarmerReport {
    /// Its name.
    pub name: &'static str,
    /// Entries filled.
    pub warmed: usize,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl CacheWarmer {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a warmer: a future that fills the tiers and returns the number of entries filled.
    #[must_use]
    pub fn with<E: Display>(
        mut self,
        name: &'static str,
        warming: impl Future<Output = Result<usize, E>> + Send + 'static,
    ) -> Self {
        let warming = async move { warming.await.map_err(|error| error.to_string()) };
        self.0.push((name, Box::pin(warming)));
        self
    }
}

impl Cache {
    /// Runs all warmers for at most `limit`. Warmers that have not ended by then are stopped and
    /// reported as failed.
    pub async fn warm(&self, warmer: CacheWarmer, limit: Duration) -> WarmingResult {
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for (name, warming) in warmer.0 {
            running.spawn(async move {
                let ended = tokio::spawn(tokio::time::timeout_at(begun + limit, warming)).await;
                let (warmed, error) = match ended {
                    Ok(Ok(Ok(warmed))) => (warmed, None),
                    Ok(Ok(Err(error))) => (0, Some(error)),
                    Ok(Err(_elapsed)) => (0, Some("did not end in time".to_owned())),
                    Err(_panic) => (0, Some("panicked".to_owned())),
                };
                WarmerReport { name, warmed, error }
            });
        }
        let warmers = running.join_all().await;
        warmers.iter().for_each(|report| self.inner.metrics.warmed(report));
        WarmingResult {
            warmed: warmers.iter().map(|report| report.warmed).sum(),
            failed: warmers.iter().filter(|report| report.error.is_some()).count(),
            duration_ms: begun.elapsed().as_millis() as u64,
            warmers,
        }
    }
}
