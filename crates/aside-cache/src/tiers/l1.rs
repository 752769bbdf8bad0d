//! L1 is a bounded map in this process (moka, TinyLFU), weighed in bytes. It only bounds memory.
//! The freshness rule decides on every read whether an entry may be served. A late insert after an
//! invalidation is therefore harmless.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::{Expiry, notification::RemovalCause, sync::Cache as Moka};
use rapidhash::quality::RandomState;

use crate::{
    consistency::freshness::{Epoch, Freshness, Verdict},
    entry::{DbTime, Entry},
    key::{Key, Tag, Tenant},
    outcome::Outcome,
    policy::Cacheable,
};

/// The bytes of an entry beyond its key and its value, as `make bench` measures them. They are the
/// map's nodes, the entry's fields, and the allocator's rounding.
const OVERHEAD: usize = 900;

/// An entry of L1.
pub(crate) struct LocalEntry<T> {
    pub(crate) entry: Arc<Entry<T>>,
    /// The epoch in which it was read.
    pub(crate) epoch: Epoch,
    /// The end of its lifetime in L1, by the instance's clock.
    pub(crate) fresh_until: Duration,
    /// The time that it took to get the entry.
    pub(crate) cost: Duration,
}

impl<T> Clone for LocalEntry<T> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), epoch: self.epoch.clone(), ..*self }
    }
}

/// An entry on its way to the caller, and its outcome.
pub(crate) type Hit<T> = (LocalEntry<T>, Outcome);
/// The reason why a tier can't answer.
pub(crate) type MissReason = Outcome;

#[derive(Clone)]
struct Slot {
    pattern: &'static str,
    owner: QuotaOwner,
    local: Arc<dyn Stored>,
    weight: u32,
    lifetime: Duration,
}

/// An entry of any type, for callers that inspect it without reading its value.
pub(crate) trait Stored: Any + Send + Sync {
    /// The version of the key's tag when the entry was read, the time of that read, and the
    /// freshness at `now`.
    fn inspect(&self, key: &Tag, freshness: &Freshness, now: Duration) -> (Option<i64>, DbTime, Verdict);
}

impl<T: Cacheable> Stored for LocalEntry<T> {
    fn inspect(&self, key: &Tag, freshness: &Freshness, now: Duration) -> (Option<i64>, DbTime, Verdict) {
        let Entry { value, tag_versions, loaded_at, .. } = &*self.entry;
        let own = tag_versions.iter().find(|tag_version| tag_version.tag == *key);
        let verdict = freshness.check(now, key, self, T::POLICY.max_age(value.is_none()));
        (own.map(|tag_version| tag_version.version), *loaded_at, verdict)
    }
}

struct SlotLifetime;

impl Expiry<Tag, Slot> for SlotLifetime {
    fn expire_after_create(&self, _: &Tag, slot: &Slot, _: Instant) -> Option<Duration> {
        Some(slot.lifetime)
    }

    fn expire_after_update(&self, _: &Tag, slot: &Slot, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(slot.lifetime)
    }
}

/// The use of L1 by one key pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The weight of the stored entries in bytes.
    pub(crate) bytes: i64,
    /// The number of entries evicted because L1 was full.
    pub(crate) evicted: u64,
}

/// The owner of a quota: its bytes in L1 are counted together.
#[derive(Clone)]
enum QuotaOwner {
    /// One tenant. It may use at most an equal part with the other tenants and with shared data.
    Tenant(Tenant),
    /// Absences of shared data. Clients that request random ids must not evict other entries.
    Absent,
    /// Other shared data. They may use all of L1.
    Shared,
}

/// The part of L1 that absences may use, as a divisor.
const ABSENT_PART: u64 = 16;

#[derive(Default)]
struct Quotas {
    patterns: BTreeMap<&'static str, Usage>,
    tenants: HashMap<Tenant, u64>,
    absent: u64,
}

type SharedQuotas = Arc<Mutex<Quotas>>;

/// The map and its quotas.
pub(crate) struct L1 {
    capacity: u64,
    map: Option<Moka<Tag, Slot, RandomState>>,
    quotas: SharedQuotas,
}

impl L1 {
    /// Makes a map of at most `capacity` bytes. With 0 there is no map.
    pub(crate) fn new(capacity: u64) -> Self {
        let quotas = SharedQuotas::default();
        let released = Arc::clone(&quotas);
        let map = (capacity > 0).then(|| {
            Moka::builder()
                .max_capacity(capacity)
                .weigher(|_, slot: &Slot| slot.weight)
                .expire_after(SlotLifetime)
                .eviction_listener(move |_, slot, cause| {
                    released.lock().unwrap_or_else(PoisonError::into_inner).release(&slot, cause == RemovalCause::Size);
                })
                .build_with_hasher(RandomState::new())
        });
        Self { capacity, map, quotas }
    }

    pub(crate) fn get<T: Cacheable>(&self, key: &Key<T>) -> Option<Arc<LocalEntry<T>>> {
        let local: Arc<dyn Any + Send + Sync> = self.map.as_ref()?.get(key.tag())?.local;
        local.downcast().ok()
    }

    /// Whether L1 contains an entry. This does not count as a read, because a key would look twice
    /// as popular after two lookups for one request.
    pub(crate) fn contains<T>(&self, key: &Key<T>) -> bool {
        self.map.as_ref().is_some_and(|map| map.contains_key(key.tag()))
    }

    /// An entry and its weight in bytes.
    pub(crate) fn inspect(&self, tag: &Tag) -> Option<(Arc<dyn Stored>, u32)> {
        let slot = self.map.as_ref()?.get(tag)?;
        Some((slot.local, slot.weight))
    }

    /// Stores an entry for at most `lifetime`.
    pub(crate) fn insert<T: Cacheable>(&self, key: &Key<T>, local: LocalEntry<T>, lifetime: Duration) {
        if let Some(map) = &self.map {
            let weight = u32::try_from(weigh(key, &local.entry)).unwrap_or(u32::MAX);
            let owner = match key.tenant_of() {
                Some(tenant) => QuotaOwner::Tenant(tenant.clone()),
                None if local.entry.value.is_none() => QuotaOwner::Absent,
                None => QuotaOwner::Shared,
            };
            let slot = Slot { pattern: T::POLICY.name, owner, local: Arc::new(local), weight, lifetime };
            if self.quotas.lock().unwrap_or_else(PoisonError::into_inner).try_charge(&slot, self.capacity) {
                map.insert(key.tag().clone(), slot);
            } else {
                // The entry that the new one would have replaced is due. Without its removal it
                // would be refreshed again and again.
                map.invalidate(key.tag());
            }
        }
    }

    pub(crate) fn remove(&self, tag: &Tag) {
        if let Some(map) = &self.map {
            map.invalidate(tag);
        }
    }

    pub(crate) fn clear(&self) {
        if let Some(map) = &self.map {
            map.invalidate_all();
        }
    }

    /// Removes all entries of these tenants.
    pub(crate) fn remove_of(&self, tenants: &[Tenant]) {
        let Some(map) = self.map.as_ref().filter(|_| !tenants.is_empty()) else { return };
        for (tag, slot) in map {
            if matches!(&slot.owner, QuotaOwner::Tenant(tenant) if tenants.contains(tenant)) {
                map.invalidate(&*tag);
            }
        }
    }

    /// The use of L1 by each key pattern.
    pub(crate) fn usage(&self) -> BTreeMap<&'static str, Usage> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner).patterns.clone()
    }

    /// The weight in bytes and the number of entries.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.map.as_ref().map_or((0, 0), |map| {
            map.run_pending_tasks();
            (map.weighted_size(), map.entry_count())
        })
    }
}

impl Quotas {
    /// Adds a new slot to the usage, unless its owner has used its quota.
    fn try_charge(&mut self, slot: &Slot, capacity: u64) -> bool {
        let weight = u64::from(slot.weight);
        match &slot.owner {
            QuotaOwner::Shared => {}
            QuotaOwner::Absent if self.absent + weight > capacity / ABSENT_PART => return false,
            QuotaOwner::Absent => self.absent += weight,
            QuotaOwner::Tenant(tenant) => {
                let (has, others) = match self.tenants.get(tenant) {
                    Some(has) => (*has, self.tenants.len() - 1),
                    None => (0, self.tenants.len()),
                };
                // One part for each tenant, and one for shared data.
                if has + weight > capacity / (2 + others as u64) {
                    return false;
                }
                self.tenants.insert(tenant.clone(), has + weight);
            }
        }
        self.patterns.entry(slot.pattern).or_default().bytes += i64::from(slot.weight);
        true
    }

    /// Subtracts a removed slot from the usage.
    fn release(&mut self, slot: &Slot, evicted: bool) {
        let usage = self.patterns.entry(slot.pattern).or_default();
        usage.bytes -= i64::from(slot.weight);
        usage.evicted += u64::from(evicted);
        let weight = u64::from(slot.weight);
        match &slot.owner {
            QuotaOwner::Shared => {}
            QuotaOwner::Absent => self.absent = self.absent.saturating_sub(weight),
            QuotaOwner::Tenant(tenant) => {
                if let Some(has) = self.tenants.get_mut(tenant) {
                    *has = has.saturating_sub(weight);
                    // Tenants come and go, so an empty quota is removed.
                    if *has == 0 {
                        self.tenants.remove(tenant);
                    }
                }
            }
        }
    }
}

/// The weight of an entry in bytes. It counts the response once as text and about as much again for
/// the decoded value.
fn weigh<T>(key: &Key<T>, entry: &Entry<T>) -> usize {
    let tag_versions: usize = entry.tag_versions.iter().map(|tag_version| tag_version.tag.as_str().len() + 40).sum();
    OVERHEAD + key.as_str().len() + 2 * entry.body.len() + tag_versions
}
