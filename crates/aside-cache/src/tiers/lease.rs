//! The right to fill keys of L2. It prevents a stampede, and no promise depends on it.

use std::{sync::Arc, time::Duration};

use crate::{
    background::Background,
    tiers::guard::{GuardedL2, L2Failure},
    tiers::l2::{Fetch, Fetched, Fill},
};

/// The right to fill some keys of L2. When it is dropped, the lease is given back, so that no
/// instance waits for it. This happens after a failed load, a panic, or a fetch without an answer.
pub(crate) struct Lease {
    l2: Arc<GuardedL2>,
    background: Background,
    token: String,
    keys: Vec<String>,
}

impl Lease {
    pub(crate) fn new(l2: &Arc<GuardedL2>, background: &Background) -> Self {
        let token = fastrand::u64(..).to_string();
        Self { l2: Arc::clone(l2), background: background.clone(), token, keys: Vec::new() }
    }

    /// Fetches keys from L2. When this lease is dropped, the leases of these keys are given back.
    /// They include those that L2 may still grant because it did not answer.
    pub(crate) async fn fetch(&mut self, fetches: &[Fetch]) -> Result<Vec<Fetched>, L2Failure> {
        // The keys are recorded before the call. A caller that is cancelled during the call may
        // have leased them too.
        self.keys = fetches.iter().map(|fetch| fetch.key.clone()).collect();
        let answer = self.l2.fetch(fetches, &self.token).await;
        match &answer {
            Ok(answers) => {
                let mut answers = answers.iter();
                self.keys.retain(|_| answers.next() == Some(&Fetched::Leased));
            }
            Err(L2Failure::Skipped) => self.keys.clear(),
            Err(L2Failure::Failed) => {}
        }
        answer
    }

    /// Leases the keys of `fills` for which L2 has no entry that is as new.
    pub(crate) async fn take(l2: &Arc<GuardedL2>, background: &Background, fills: &[Fill]) -> Self {
        let mut lease = Self::new(l2, background);
        let version = |fill: &Fill| fill.value.as_ref().map_or(0, |(version, _)| *version);
        let fetch = |fill: &Fill| Fetch { key: fill.key.clone(), min_version: version(fill) };
        let answer = lease.fetch(&fills.iter().map(fetch).collect::<Vec<_>>()).await;
        if answer.is_err() {
            return Self::new(l2, background);
        }
        lease
    }

    /// Fills the leased keys, and gives the other leases back.
    pub(crate) async fn fill(mut self, mut fills: Vec<Fill>) {
        fills.retain(|fill| self.keys.contains(&fill.key));
        if fills.is_empty() {
            return;
        }
        if self.l2.fill(&fills, &self.token).await.is_ok() {
            self.keys.retain(|key| !fills.iter().any(|fill| fill.key == *key));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (l2, token) = (Arc::clone(&self.l2), std::mem::take(&mut self.token));
        let release = |key| Fill { key, value: None, lifetime: Duration::ZERO };
        let releases: Vec<Fill> = self.keys.drain(..).map(release).collect();
        if releases.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.background.finish(async move { l2.release(&releases, &token).await });
    }
}
