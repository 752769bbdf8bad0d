//! The shared tier as the read path uses it: what L2 holds is opened and judged, what it lacks is leased, loaded and filled.

use std::{sync::Arc, time::Duration};

use super::{
    Cache, Inner, codec,
    freshness::Epoch,
    guard::L2Failure,
    key::Key,
    l1::{Hit, LocalEntry, MissReason},
    l2::{Fetch, Fetched, Fill},
    outcome::Outcome,
    placement::L2Slot,
    policy::Cacheable,
};

/// Pause before an instance asks again whether the holder of a lease is done: from half of this to all of it, at random.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How many answers of L2 are refused before the value is loaded without a lease.
const MAX_REJECTED_HITS: usize = 2;

/// What to do with a value once it is loaded.
pub(super) enum WriteBack {
    /// Fill L1, and L2 under this lease.
    WithLease(Lease),
    /// Fill L1, and L2 if a lease can be had for it now.
    IfFree,
    /// Fill L1: L2 is unhealthy, or another instance is filling it.
    LocalOnly,
    /// Leave the tiers as they are.
    Skip,
}

/// Leave to fill some keys of L2. Dropped (a load that failed or panicked, a fetch that was not answered), it is given back, so
/// that nobody waits for it.
pub(super) struct Lease {
    inner: Arc<Inner>,
    token: String,
    keys: Vec<String>,
}

impl Cache {
    /// L2's answer, if it may be served; it is left in L1. Else why not, and what the load that follows may fill. Waits for a
    /// load that another instance is doing, for as long as its lease lasts.
    pub(super) async fn l2_answer<T: Cacheable>(
        &self,
        key: &Key<T>,
        epoch: &Epoch,
        mut missed: MissReason,
    ) -> Result<Hit<T>, (MissReason, WriteBack)> {
        let slot = self.may_use_l2(epoch).then(|| self.slot(key, epoch)).flatten();
        let (Some(slot), Some(l2)) = (slot, &self.inner.l2) else { return Err((missed, WriteBack::LocalOnly)) };
        let mut lease = Lease::new(&self.inner);
        let mut fetch = Fetch { key: slot.key.clone(), min_version: 0 };
        let (give_up, mut has_waited, mut rejected_hits) = (self.inner.clock.now() + l2.lease_wait(), false, 0);
        loop {
            let answer = lease.fetch(std::slice::from_ref(&fetch)).await.map(|mut answers| answers.pop());
            let is_busy = matches!(answer, Ok(Some(Fetched::Busy(_))));
            let gives_up = is_busy && self.inner.clock.now() >= give_up;
            if gives_up || (has_waited && matches!(answer, Ok(Some(Fetched::Hit { .. })))) {
                l2.waited(gives_up);
            }
            has_waited |= is_busy;
            match answer {
                Ok(Some(Fetched::Hit { version, value })) => match self.admit(key, &slot, &value, epoch) {
                    Ok(found) => return Ok(found),
                    Err(_) if rejected_hits == MAX_REJECTED_HITS => return Err((missed, WriteBack::LocalOnly)),
                    Err(refused) => {
                        (missed, fetch.min_version) = (refused, version.saturating_add(1));
                        rejected_hits += 1;
                    }
                },
                Ok(Some(Fetched::Busy(_))) if !gives_up => {
                    tokio::time::sleep(LEASE_POLL_INTERVAL.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                }
                Ok(Some(Fetched::Leased)) => return Err((missed, WriteBack::WithLease(lease))),
                Ok(_) => return Err((missed, WriteBack::LocalOnly)),
                Err(failure) => return Err((missed_by(failure), WriteBack::LocalOnly)),
            }
        }
    }

    /// L2's answers for several keys, in one call and without waiting for anyone.
    pub(super) async fn l2_answers<T: Cacheable>(
        &self,
        keys: &[(&Key<T>, MissReason)],
        epoch: &Epoch,
    ) -> (Vec<Result<Hit<T>, MissReason>>, WriteBack) {
        let missed = || keys.iter().map(|(_, missed)| Err(*missed)).collect();
        if keys.is_empty() || !self.may_use_l2(epoch) {
            return (missed(), WriteBack::LocalOnly);
        }
        let slots: Option<Vec<L2Slot>> = keys.iter().map(|(key, _)| self.slot(key, epoch)).collect();
        let Some(slots) = slots else { return (missed(), WriteBack::LocalOnly) };
        let mut lease = Lease::new(&self.inner);
        let fetches: Vec<Fetch> = slots.iter().map(|slot| Fetch { key: slot.key.clone(), min_version: 0 }).collect();
        let answers = match lease.fetch(&fetches).await {
            Ok(answers) => answers,
            Err(failure) => {
                return (keys.iter().map(|_| Err(missed_by(failure))).collect(), WriteBack::LocalOnly);
            }
        };
        let checked = keys.iter().zip(&slots).zip(answers).map(|(((key, missed), slot), answer)| match answer {
            Fetched::Hit { value, .. } => self.admit(key, slot, &value, epoch),
            Fetched::Busy(_) | Fetched::Leased => Err(*missed),
        });
        (checked.collect(), WriteBack::WithLease(lease))
    }

    /// What L2 holds of a key, not judged. Nothing will be filled, so a lease goes back at once.
    pub(super) async fn l2_unchecked<T: Cacheable>(&self, key: &Key<T>) -> Option<LocalEntry<T>> {
        let epoch = self.inner.freshness.epoch();
        if epoch.number == 0 {
            return None;
        }
        let slot = self.slot(key, &epoch)?;
        let fetch = Fetch { key: slot.key.clone(), min_version: 0 };
        let answer = Lease::new(&self.inner).fetch(&[fetch]).await;
        let Fetched::Hit { value, .. } = answer.ok()?.pop()? else { return None };
        let entry = codec::decode(key, &slot.open(&value).ok()?).ok()?;
        Some(self.set_l1_expiry(Arc::new(entry), &epoch, Duration::ZERO))
    }

    /// Whether L2 may be asked: there is one, and its answers can be judged.
    fn may_use_l2(&self, epoch: &Epoch) -> bool {
        self.inner.l2.is_some() && epoch.number > 0 && self.inner.freshness.is_current()
    }

    /// The key's place in L2, if it has one.
    fn slot<T: Cacheable>(&self, key: &Key<T>, epoch: &Epoch) -> Option<L2Slot> {
        self.inner.placement.slot(&T::POLICY, key.tenant_of(), key.tag(), epoch)
    }

    /// Opens and judges what L2 held.
    fn admit<T: Cacheable>(
        &self,
        key: &Key<T>,
        slot: &L2Slot,
        sealed: &[u8],
        epoch: &Epoch,
    ) -> Result<Hit<T>, MissReason> {
        let unreadable = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, pattern = T::POLICY.name, "unreadable entry in L2");
            Outcome::LoadedUnreadable
        };
        let plain = slot.open(sealed).map_err(|error| unreadable(&error))?;
        let entry = codec::decode(key, &plain).map_err(|error| unreadable(&error))?;
        let local = self.set_l1_expiry(Arc::new(entry), epoch, Duration::ZERO);
        let local = self.check_freshness(key, &local, self.inner.clock.now()).into_result(local)?;
        self.store_l1(key, &local);
        Ok((local, Outcome::L2Hit))
    }

    /// Fills the tiers: L1 at once, L2 off the path of the response.
    pub(super) fn fill<T: Cacheable>(&self, entries: &[(Key<T>, LocalEntry<T>)], epoch: &Epoch, write_back: WriteBack) {
        if matches!(write_back, WriteBack::Skip) || entries.is_empty() {
            return;
        }
        for (key, local) in entries {
            self.store_l1(key, local);
        }
        let fills: Vec<Fill> = match (&write_back, &self.inner.l2) {
            (WriteBack::WithLease(_) | WriteBack::IfFree, Some(_)) if epoch.number > 0 => {
                entries.iter().filter_map(|(key, local)| self.seal(key, local, epoch)).collect()
            }
            _ => return,
        };
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            let lease = match write_back {
                WriteBack::WithLease(lease) => lease,
                _ => Lease::take(&inner, &fills).await,
            };
            lease.fill(fills).await;
        });
    }

    fn seal<T: Cacheable>(&self, key: &Key<T>, local: &LocalEntry<T>, epoch: &Epoch) -> Option<Fill> {
        let slot = self.slot(key, epoch)?;
        let plain = codec::encode(key, &local.entry)
            .inspect_err(|error| tracing::debug!(%error, "entry not written to L2"))
            .ok()?;
        Some(Fill {
            value: Some((local.entry.entry_version(), slot.seal(plain)?)),
            key: slot.key,
            lifetime: self.inner.pressure.lifetime(T::POLICY.l2_lifetime(local.entry.value.is_none())),
        })
    }
}

impl Lease {
    fn new(inner: &Arc<Inner>) -> Self {
        let token = fastrand::u64(..).to_string();
        Self { inner: Arc::clone(inner), token, keys: Vec::new() }
    }

    /// Asks L2. What it leases, or may lease later because it did not answer, is given back when this is dropped.
    async fn fetch(&mut self, fetches: &[Fetch]) -> Result<Vec<Fetched>, L2Failure> {
        let Some(l2) = self.inner.l2.clone() else { return Err(L2Failure::Skipped) };
        // Before the call: who hangs up in the middle of it may have leased them too.
        self.keys = fetches.iter().map(|fetch| fetch.key.clone()).collect();
        let answer = l2.fetch(fetches, &self.token).await;
        self.inner.metrics.l2_call("fetch", l2_result(&answer));
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

    /// Leases those keys of `fills` that hold nothing as new.
    async fn take(inner: &Arc<Inner>, fills: &[Fill]) -> Self {
        let mut lease = Self::new(inner);
        let version = |fill: &Fill| fill.value.as_ref().map_or(0, |(version, _)| *version);
        let fetch = |fill: &Fill| Fetch { key: fill.key.clone(), min_version: version(fill) };
        let answer = lease.fetch(&fills.iter().map(fetch).collect::<Vec<_>>()).await;
        if answer.is_err() {
            return Self::new(inner);
        }
        lease
    }

    /// Fills what is leased, and gives the rest back.
    async fn fill(mut self, mut fills: Vec<Fill>) {
        fills.retain(|fill| self.keys.contains(&fill.key));
        let Some(l2) = self.inner.l2.as_ref().filter(|_| !fills.is_empty()) else {
            return;
        };
        let answer = l2.fill(&fills, &self.token).await;
        self.inner.metrics.l2_call("fill", l2_result(&answer));
        if answer.is_ok() {
            self.keys.retain(|key| !fills.iter().any(|fill| fill.key == *key));
        }
        for filled in answer.into_iter().flatten() {
            self.inner.metrics.filled(filled);
        }
    }
}

impl std::ops::Drop for Lease {
    fn drop(&mut self) {
        let (inner, token) = (Arc::clone(&self.inner), std::mem::take(&mut self.token));
        let release = |key| Fill { key, value: None, lifetime: Duration::ZERO };
        let releases: Vec<Fill> = self.keys.drain(..).map(release).collect();
        if releases.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.inner.tasks.spawn(async move {
            if let Some(l2) = &inner.l2 {
                l2.release(&releases, &token).await;
            }
        });
    }
}

fn missed_by(failure: L2Failure) -> MissReason {
    match failure {
        L2Failure::Failed => Outcome::L2Error,
        L2Failure::Skipped => Outcome::L2Skipped,
    }
}

/// The result of a call as the metrics name it.
pub(super) fn l2_result<R>(answer: &Result<R, L2Failure>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(L2Failure::Failed) => "failed",
        Err(L2Failure::Skipped) => "skipped",
    }
}
