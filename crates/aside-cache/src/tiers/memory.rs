//! An in-memory L2 for tests and examples. The scripts of Redis are compared with it. Clones share
//! its contents, as several instances share one Redis.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    tiers::l2::{Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error},
};

/// A store in this process.
///
/// ```
/// use aside_cache::{Fetch, Fetched, Fill, L2, MemoryL2};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let l2 = MemoryL2::default();
/// let fetch = [Fetch { key: "product:42".into(), min_version: 0 }];
/// let lease = Duration::from_secs(1);
/// assert_eq!(l2.fetch(&fetch, "me", lease).await.unwrap(), [Fetched::Leased]);
///
/// let value = Some((7, "bananas".into()));
/// let fill = [Fill { key: "product:42".into(), value, lifetime: Duration::from_hours(1) }];
/// l2.fill(&fill, "me").await.unwrap();
/// let hit = Fetched::Hit { version: 7, value: "bananas".into() };
/// assert_eq!(l2.fetch(&fetch, "another", lease).await.unwrap(), [hit]);
/// # });
/// ```
#[derive(Clone, Default)]
pub struct MemoryL2 {
    clock: Clock,
    slots: Arc<Mutex<HashMap<String, Slot>>>,
    hints: Arc<Notify>,
}

/// The state of one key.
#[derive(Clone, Debug, Default)]
struct Slot {
    value: Option<(i64, Bytes)>,
    floor: i64,
    lease: Option<(String, Duration)>,
    expires: Duration,
}

impl MemoryL2 {
    /// An empty store whose lifetimes end by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, slots: Arc::default(), hints: Arc::default() }
    }

    /// All keys that have a value, for inspection by tests.
    pub fn keys(&self) -> Vec<String> {
        let now = self.clock.now();
        let slots = self.lock();
        let filled = slots.iter().filter(|(_, slot)| slot.value.is_some() && slot.expires > now);
        filled.map(|(key, _)| key.clone()).collect()
    }

    /// Loses everything, as an eviction or a flush does.
    pub fn flush(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch_one(&self, fetch: &Fetch, token: &str, lease: Duration) -> Fetched {
        let (now, mut slots) = (self.clock.now(), self.lock());
        slots.retain(|_, slot| slot.expires > now);
        let slot = slots.entry(fetch.key.clone()).or_default();
        match (&slot.value, &slot.lease) {
            (Some((version, value)), _) if *version >= slot.floor.max(fetch.min_version) => {
                Fetched::Hit { version: *version, value: value.clone() }
            }
            (_, Some((holder, until))) if holder != token && *until > now && *until <= now + lease => {
                Fetched::Busy(*until - now)
            }
            _ => {
                slot.value = None;
                slot.lease = Some((token.to_owned(), now + lease));
                slot.expires = slot.expires.max(now + lease);
                Fetched::Leased
            }
        }
    }

    fn fill_one(&self, fill: &Fill, token: &str) -> Filled {
        let (now, mut slots) = (self.clock.now(), self.lock());
        slots.retain(|_, slot| slot.expires > now);
        let Some(slot) = slots.get_mut(&fill.key) else {
            return Filled::LeaseLost;
        };
        if slot.lease.as_ref().is_none_or(|(holder, _)| holder != token) {
            return Filled::LeaseLost;
        }
        slot.lease = None;
        let Some((version, value)) = &fill.value else {
            return Filled::Released;
        };
        let known = slot.value.as_ref().map_or(i64::MIN, |(version, _)| *version);
        if *version < slot.floor.max(known) {
            return Filled::Older;
        }
        slot.value = Some((*version, value.clone()));
        slot.floor = 0;
        slot.expires = now + fill.lifetime;
        Filled::Kept
    }

    fn invalidate_one(&self, change: &Invalidation) {
        let (now, mut slots) = (self.clock.now(), self.lock());
        slots.retain(|_, slot| slot.expires > now);
        // As in Redis, a key without a value and without a lease needs no floor.
        let protects = |slot: &&mut Slot| slot.value.is_some() || slot.lease.is_some();
        if let Some(slot) = slots.get_mut(&change.key).filter(protects) {
            slot.floor = slot.floor.max(change.version);
            slot.value.take_if(|(version, _)| *version < slot.floor);
        }
    }
}

#[async_trait]
impl L2 for MemoryL2 {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error> {
        Ok(keys.iter().map(|fetch| self.fetch_one(fetch, token, lease)).collect())
    }

    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error> {
        Ok(fills.iter().map(|fill| self.fill_one(fill, token)).collect())
    }

    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error> {
        keys.iter().for_each(|change| self.invalidate_one(change));
        Ok(())
    }

    async fn ping(&self) -> Result<(), L2Error> {
        Ok(())
    }

    async fn hint(&self, _channel: &str) -> Result<(), L2Error> {
        self.hints.notify_waiters();
        Ok(())
    }

    async fn listen(&self, _channel: &str, heard: &(dyn Fn() + Send + Sync)) -> Result<(), L2Error> {
        loop {
            self.hints.notified().await;
            heard();
        }
    }
}
