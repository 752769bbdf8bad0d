//! L1: a bounded map in this process (moka, TinyLFU), weighed in bytes. It only bounds: whether an entry may be served is
//! decided by the freshness rule when it is read, so a late insert after an invalidation does no harm.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::{Expiry, notification::RemovalCause, sync::Cache as Moka};
use rapidhash::quality::RandomState;

use super::{
    entry::{DbTime, Entry},
    freshness::{Epoch, Freshness, Verdict},
    key::{Key, Tag, Tenant},
    outcome::Outcome,
    policy::Cacheable,
};

/// Bytes that an entry takes beyond its key and its value, as `make bench` measures them: the map's nodes, the entry's fields, what
/// the allocator rounds up.
const OVERHEAD: usize = 900;

/// An entry as L1 holds it.
pub(super) struct LocalEntry<T> {
    pub(super) entry: Arc<Entry<T>>,
    /// The epoch it was read in.
    pub(super) epoch: Epoch,
    /// End of its lifetime in L1, by the instance's clock.
    pub(super) fresh_until: Duration,
    /// How long it took to get it.
    pub(super) cost: Duration,
}

impl<T> Clone for LocalEntry<T> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), epoch: self.epoch.clone(), ..*self }
    }
}

/// An entry on its way to the caller, and where it came from.
pub(super) type Hit<T> = (LocalEntry<T>, Outcome);
/// Why a tier can't answer.
pub(super) type MissReason = Outcome;

#[derive(Clone)]
struct Slot {
    pattern: &'static str,
    owner: QuotaOwner,
    local: Arc<dyn Stored>,
    weight: u32,
    lifetime: Duration,
}

/// An entry of whatever type, for whoever looks it up without reading it.
pub(super) trait Stored: Any + Send + Sync {
    /// Under which number it was read, when, and whether it may be served at `now`.
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

/// What a key pattern has of L1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Bytes held, as weighed.
    pub(super) bytes: i64,
    /// Entries given up for want of room.
    pub(super) evicted: u64,
}

/// Whose bytes in L1 are counted together.
#[derive(Clone)]
enum QuotaOwner {
    /// A tenant's: at most an equal part with the other tenants and with what is shared.
    Tenant(Tenant),
    /// Absences of shared data: who asks for random ids must not push out what is there.
    Absent,
    /// Other shared data: as much as there is room for.
    Shared,
}

/// The part of L1 that absences may take.
const ABSENT_PART: u64 = 16;

#[derive(Default)]
struct Quotas {
    patterns: BTreeMap<&'static str, Usage>,
    tenants: HashMap<Tenant, u64>,
    absent: u64,
}

type SharedQuotas = Arc<Mutex<Quotas>>;

/// The map.
pub(super) struct L1 {
    capacity: u64,
    map: Option<Moka<Tag, Slot, RandomState>>,
    quotas: SharedQuotas,
}

impl L1 {
    /// A map of at most `capacity` bytes; 0: none.
    pub(super) fn new(capacity: u64) -> Self {
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

    pub(super) fn get<T: Cacheable>(&self, key: &Key<T>) -> Option<Arc<LocalEntry<T>>> {
        let local: Arc<dyn Any + Send + Sync> = self.map.as_ref()?.get(key.tag())?.local;
        local.downcast().ok()
    }

    /// Whether there is an entry, asked without being counted as a read: what is asked for twice would look twice as popular.
    pub(super) fn contains<T>(&self, key: &Key<T>) -> bool {
        self.map.as_ref().is_some_and(|map| map.contains_key(key.tag()))
    }

    /// An entry, and its bytes as weighed.
    pub(super) fn inspect(&self, tag: &Tag) -> Option<(Arc<dyn Stored>, u32)> {
        let slot = self.map.as_ref()?.get(tag)?;
        Some((slot.local, slot.weight))
    }

    /// Keeps an entry for at most `lifetime`.
    pub(super) fn insert<T: Cacheable>(&self, key: &Key<T>, local: LocalEntry<T>, lifetime: Duration) {
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
                // What it would have replaced is due, and would be refreshed again and again.
                map.invalidate(key.tag());
            }
        }
    }

    pub(super) fn remove(&self, tag: &Tag) {
        if let Some(map) = &self.map {
            map.invalidate(tag);
        }
    }

    pub(super) fn clear(&self) {
        if let Some(map) = &self.map {
            map.invalidate_all();
        }
    }

    /// Removes all that belongs to these tenants.
    pub(super) fn remove_of(&self, tenants: &[Tenant]) {
        let Some(map) = self.map.as_ref().filter(|_| !tenants.is_empty()) else { return };
        for (tag, slot) in map {
            if matches!(&slot.owner, QuotaOwner::Tenant(tenant) if tenants.contains(tenant)) {
                map.invalidate(&*tag);
            }
        }
    }

    /// What each key pattern has.
    pub(super) fn usage(&self) -> BTreeMap<&'static str, Usage> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner).patterns.clone()
    }

    /// Bytes held, as weighed, and entries.
    pub(super) fn size(&self) -> (u64, u64) {
        self.map.as_ref().map_or((0, 0), |map| {
            map.run_pending_tasks();
            (map.weighted_size(), map.entry_count())
        })
    }
}

impl Quotas {
    /// Counts a slot that comes, unless its owner has as much as it may.
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
                // A part for each tenant, and one for what is shared.
                if has + weight > capacity / (2 + others as u64) {
                    return false;
                }
                self.tenants.insert(tenant.clone(), has + weight);
            }
        }
        self.patterns.entry(slot.pattern).or_default().bytes += i64::from(slot.weight);
        true
    }

    /// Counts a slot that went.
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
                    // Tenants come and go.
                    if *has == 0 {
                        self.tenants.remove(tenant);
                    }
                }
            }
        }
    }
}

/// The bytes of an entry: its response once as text and about as much again as a decoded value.
fn weigh<T>(key: &Key<T>, entry: &Entry<T>) -> usize {
    let tag_versions: usize = entry.tag_versions.iter().map(|tag_version| tag_version.tag.as_str().len() + 40).sum();
    OVERHEAD + key.as_str().len() + 2 * entry.body.len() + tag_versions
}
