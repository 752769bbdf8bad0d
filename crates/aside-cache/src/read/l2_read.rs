//! The shared tier in the read path. Entries from L2 are opened and checked. Missing entries are
//! leased, loaded and filled.

use std::{sync::Arc, time::Duration};

use crate::{
    Cache,
    consistency::freshness::Epoch,
    key::Key,
    outcome::Outcome,
    policy::Cacheable,
    protect::placement::L2Slot,
    tiers::codec,
    tiers::guard::L2Failure,
    tiers::l1::{Hit, LocalEntry, MissReason},
    tiers::l2::{Fetch, Fetched, Fill},
    tiers::lease::Lease,
};

/// The longest pause before an instance asks again whether the holder of a lease has filled the
/// key. The pause is between half of this and all of it, at random.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The number of answers of L2 that may be rejected before the value is loaded without a lease.
const MAX_REJECTED_HITS: usize = 2;

/// The use of a value after it is loaded.
pub(crate) enum WriteBack {
    /// Fill L1, and fill L2 under this lease.
    WithLease(Lease),
    /// Fill L1, and fill L2 if its lease is free now.
    IfFree,
    /// Fill only L1. L2 is down, or another instance fills it.
    LocalOnly,
    /// Store the value in no tier.
    Skip,
}

impl Cache {
    /// Returns L2's answer if it may be served, and stores it in L1. Otherwise it returns the
    /// reason, and the tiers that the following load may fill. It waits for a load of another
    /// instance, at most as long as a lease lasts.
    pub(crate) async fn l2_answer<T: Cacheable>(
        &self,
        key: &Key<T>,
        epoch: &Epoch,
        mut missed: MissReason,
    ) -> Result<Hit<T>, (MissReason, WriteBack)> {
        let slot = self.may_use_l2(epoch).then(|| self.slot(key, epoch)).flatten();
        let (Some(slot), Some(l2)) = (slot, &self.inner.l2) else { return Err((missed, WriteBack::LocalOnly)) };
        let mut lease = Lease::new(l2, &self.inner.background);
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

    /// L2's answers for several keys, in one call. It does not wait for other instances.
    pub(crate) async fn l2_answers<T: Cacheable>(
        &self,
        keys: &[(&Key<T>, MissReason)],
        epoch: &Epoch,
    ) -> (Vec<Result<Hit<T>, MissReason>>, WriteBack) {
        let missed = || keys.iter().map(|(_, missed)| Err(*missed)).collect();
        let Some(l2) = self.inner.l2.as_ref().filter(|_| !keys.is_empty() && self.may_use_l2(epoch)) else {
            return (missed(), WriteBack::LocalOnly);
        };
        let slots: Option<Vec<L2Slot>> = keys.iter().map(|(key, _)| self.slot(key, epoch)).collect();
        let Some(slots) = slots else { return (missed(), WriteBack::LocalOnly) };
        let mut lease = Lease::new(l2, &self.inner.background);
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

    /// The entry of a key in L2, without a freshness check. The caller fills nothing, so a lease is
    /// given back at once.
    pub(crate) async fn l2_unchecked<T: Cacheable>(&self, key: &Key<T>) -> Option<LocalEntry<T>> {
        let epoch = self.inner.freshness.epoch();
        if epoch.number == 0 {
            return None;
        }
        let slot = self.slot(key, &epoch)?;
        let fetch = Fetch { key: slot.key.clone(), min_version: 0 };
        let answer = Lease::new(self.inner.l2.as_ref()?, &self.inner.background).fetch(&[fetch]).await;
        let Fetched::Hit { value, .. } = answer.ok()?.pop()? else { return None };
        let entry = codec::decode(key, &slot.open(&value).ok()?).ok()?;
        Some(self.set_l1_expiry(Arc::new(entry), &epoch, Duration::ZERO))
    }

    /// Whether L2 may be called: it exists, and its answers can be checked.
    fn may_use_l2(&self, epoch: &Epoch) -> bool {
        self.inner.l2.is_some() && epoch.number > 0 && self.inner.freshness.is_current()
    }

    /// The slot of the key in L2, if it has one.
    fn slot<T: Cacheable>(&self, key: &Key<T>, epoch: &Epoch) -> Option<L2Slot> {
        self.inner.placement.slot(&T::POLICY, key.tenant_of(), key.tag(), epoch)
    }

    /// Opens and checks an entry of L2.
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

    /// Fills L1 at once, and L2 in the background.
    pub(crate) fn fill<T: Cacheable>(&self, entries: &[(Key<T>, LocalEntry<T>)], epoch: &Epoch, write_back: WriteBack) {
        if matches!(write_back, WriteBack::Skip) || entries.is_empty() {
            return;
        }
        for (key, local) in entries {
            self.compare_with_replaced(key, local);
            self.store_l1(key, local);
        }
        let Some(l2) = self.inner.l2.clone().filter(|_| epoch.number > 0) else { return };
        if matches!(write_back, WriteBack::LocalOnly) {
            return;
        }
        let fills: Vec<Fill> = entries.iter().filter_map(|(key, local)| self.seal(key, local, epoch)).collect();
        let background = self.inner.background.clone();
        self.inner.background.finish(async move {
            let lease = match write_back {
                WriteBack::WithLease(lease) => lease,
                _ => Lease::take(&l2, &background, &fills).await,
            };
            lease.fill(fills).await;
        });
    }

    fn seal<T: Cacheable>(&self, key: &Key<T>, local: &LocalEntry<T>, epoch: &Epoch) -> Option<Fill> {
        let lifetime = self.until_end(local, T::POLICY.l2_lifetime(local.entry.value.is_none()));
        if lifetime.is_zero() {
            return None;
        }
        let slot = self.slot(key, epoch)?;
        let plain = codec::encode(key, &local.entry)
            .inspect_err(|error| tracing::debug!(%error, "entry not written to L2"))
            .ok()?;
        Some(Fill {
            value: Some((local.entry.entry_version(), slot.seal(plain)?)),
            key: slot.key,
            lifetime: self.inner.pressure.lifetime(lifetime),
        })
    }
}

fn missed_by(failure: L2Failure) -> MissReason {
    match failure {
        L2Failure::Failed => Outcome::L2Error,
        L2Failure::Skipped => Outcome::L2Skipped,
    }
}
