//! The shared tier as the read path uses it: what L2 holds is opened and judged, what it lacks is leased, loaded and filled.

use std::{sync::Arc, time::Duration};

use super::{
    Cache, Inner, codec,
    fence::Era,
    guard::L2Failure,
    key::Key,
    l1::{Found, Held, Missed},
    l2::{Fetch, Fetched, Fill},
    outcome::Outcome,
    policy::Cacheable,
    vault::Shelf,
};

/// Pause before an instance asks again whether the holder of a lease is done: from half of this to all of it, at random.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How many answers of L2 are refused before the value is loaded without a lease.
const REFUSALS: usize = 2;

/// What to do with a value once it is loaded.
pub(super) enum Filling {
    /// Fill L1, and L2 under this lease.
    Leased(Lease),
    /// Fill L1, and L2 if a lease can be had for it now.
    Unleased,
    /// Fill L1: L2 is ill, or another instance is filling it.
    L1,
    /// Leave the tiers as they are.
    Nothing,
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
        era: &Era,
        mut missed: Missed,
    ) -> Result<Found<T>, (Missed, Filling)> {
        let shelf = self.may_use_l2(era).then(|| self.shelf(key, era)).flatten();
        let (Some(shelf), Some(l2)) = (shelf, &self.inner.l2) else { return Err((missed, Filling::L1)) };
        let mut lease = Lease::new(&self.inner);
        let mut fetch = Fetch { key: shelf.key.clone(), min_order: 0 };
        let (give_up, mut has_waited, mut refusals) = (self.inner.clock.now() + l2.lease_wait(), false, 0);
        loop {
            let answer = lease.fetch(std::slice::from_ref(&fetch)).await.map(|mut answers| answers.pop());
            let is_busy = matches!(answer, Ok(Some(Fetched::Busy(_))));
            let gives_up = is_busy && self.inner.clock.now() >= give_up;
            if gives_up || (has_waited && matches!(answer, Ok(Some(Fetched::Hit { .. })))) {
                l2.waited(gives_up);
            }
            has_waited |= is_busy;
            match answer {
                Ok(Some(Fetched::Hit { order, value })) => match self.admit(key, &shelf, &value, era) {
                    Ok(found) => return Ok(found),
                    Err(_) if refusals == REFUSALS => return Err((missed, Filling::L1)),
                    Err(refused) => {
                        (missed, fetch.min_order) = (refused, order.saturating_add(1));
                        refusals += 1;
                    }
                },
                Ok(Some(Fetched::Busy(_))) if !gives_up => {
                    tokio::time::sleep(ASK_AGAIN.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                }
                Ok(Some(Fetched::Leased)) => return Err((missed, Filling::Leased(lease))),
                Ok(_) => return Err((missed, Filling::L1)),
                Err(failure) => return Err((missed_by(failure), Filling::L1)),
            }
        }
    }

    /// L2's answers for several keys, in one call and without waiting for anyone.
    pub(super) async fn l2_answers<T: Cacheable>(
        &self,
        keys: &[(&Key<T>, Missed)],
        era: &Era,
    ) -> (Vec<Result<Found<T>, Missed>>, Filling) {
        let missed = || keys.iter().map(|(_, missed)| Err(*missed)).collect();
        if keys.is_empty() || !self.may_use_l2(era) {
            return (missed(), Filling::L1);
        }
        let shelves: Option<Vec<Shelf>> = keys.iter().map(|(key, _)| self.shelf(key, era)).collect();
        let Some(shelves) = shelves else { return (missed(), Filling::L1) };
        let mut lease = Lease::new(&self.inner);
        let fetches: Vec<Fetch> = shelves.iter().map(|shelf| Fetch { key: shelf.key.clone(), min_order: 0 }).collect();
        let answers = match lease.fetch(&fetches).await {
            Ok(answers) => answers,
            Err(failure) => {
                return (keys.iter().map(|_| Err(missed_by(failure))).collect(), Filling::L1);
            }
        };
        let judged = keys.iter().zip(&shelves).zip(answers).map(|(((key, missed), shelf), answer)| match answer {
            Fetched::Hit { value, .. } => self.admit(key, shelf, &value, era),
            Fetched::Busy(_) | Fetched::Leased => Err(*missed),
        });
        (judged.collect(), Filling::Leased(lease))
    }

    /// What L2 holds of a key, not judged. Nothing will be filled, so a lease goes back at once.
    pub(super) async fn l2_held<T: Cacheable>(&self, key: &Key<T>) -> Option<Held<T>> {
        let era = self.inner.fence.era();
        if era.number == 0 {
            return None;
        }
        let shelf = self.shelf(key, &era)?;
        let fetch = Fetch { key: shelf.key.clone(), min_order: 0 };
        let answer = Lease::new(&self.inner).fetch(&[fetch]).await;
        let Fetched::Hit { value, .. } = answer.ok()?.pop()? else { return None };
        let entry = codec::decode(key, &shelf.open(&value).ok()?).ok()?;
        Some(self.hold(Arc::new(entry), &era, Duration::ZERO))
    }

    /// Whether L2 may be asked: there is one, and its answers can be judged.
    fn may_use_l2(&self, era: &Era) -> bool {
        self.inner.l2.is_some() && era.number > 0 && self.inner.fence.trusted()
    }

    /// The key's place in L2, if it has one.
    fn shelf<T: Cacheable>(&self, key: &Key<T>, era: &Era) -> Option<Shelf> {
        self.inner.vault.shelf(&T::POLICY, key.tenant_of(), key.name(), era)
    }

    /// Opens and judges what L2 held.
    fn admit<T: Cacheable>(&self, key: &Key<T>, shelf: &Shelf, sealed: &[u8], era: &Era) -> Result<Found<T>, Missed> {
        let unreadable = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, pattern = T::POLICY.pattern, "unreadable entry in L2");
            Outcome::LoadedUnreadable
        };
        let plain = shelf.open(sealed).map_err(|error| unreadable(&error))?;
        let entry = codec::decode(key, &plain).map_err(|error| unreadable(&error))?;
        let held = self.hold(Arc::new(entry), era, Duration::ZERO);
        let held = self.judge(key, &held, self.inner.clock.now()).admit(held)?;
        self.put_l1(key, &held);
        Ok((held, Outcome::L2Hit))
    }

    /// Fills the tiers: L1 at once, L2 off the path of the response.
    pub(super) fn fill<T: Cacheable>(&self, entries: &[(Key<T>, Held<T>)], era: &Era, filling: Filling) {
        if matches!(filling, Filling::Nothing) || entries.is_empty() {
            return;
        }
        for (key, held) in entries {
            self.put_l1(key, held);
        }
        let fills: Vec<Fill> = match (&filling, &self.inner.l2) {
            (Filling::Leased(_) | Filling::Unleased, Some(_)) if era.number > 0 => {
                entries.iter().filter_map(|(key, held)| self.seal(key, held, era)).collect()
            }
            _ => return,
        };
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            let lease = match filling {
                Filling::Leased(lease) => lease,
                _ => Lease::take(&inner, &fills).await,
            };
            lease.fill(fills).await;
        });
    }

    fn seal<T: Cacheable>(&self, key: &Key<T>, held: &Held<T>, era: &Era) -> Option<Fill> {
        let shelf = self.shelf(key, era)?;
        let plain = codec::encode(key, &held.entry)
            .inspect_err(|error| tracing::debug!(%error, "entry not written to L2"))
            .ok()?;
        Some(Fill {
            value: Some((held.entry.order(), shelf.seal(plain)?)),
            key: shelf.key,
            lifetime: self.inner.pressure.lifetime(T::POLICY.l2_lifetime(held.entry.value.is_none())),
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
        let order = |fill: &Fill| fill.value.as_ref().map_or(0, |(order, _)| *order);
        let fetch = |fill: &Fill| Fetch { key: fill.key.clone(), min_order: order(fill) };
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

fn missed_by(failure: L2Failure) -> Missed {
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
