//! The in-memory double of L2: for tests and examples. Shared by cloning, like one Redis by several instances.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    clock::Clock,
    l2::{L2, L2Error, L2Put},
};

/// A store of bytes in this process.
#[derive(Clone, Default)]
pub struct MemoryL2 {
    clock: Clock,
    map: Arc<Mutex<HashMap<String, (Bytes, Duration)>>>,
}

impl MemoryL2 {
    /// An empty store whose lifetimes end by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            map: Arc::default(),
        }
    }

    /// All keys, for looking in from outside.
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Bytes, Duration)>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl L2 for MemoryL2 {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, L2Error> {
        let (now, map) = (self.clock.now(), self.lock());
        let live = |key| match map.get(key) {
            Some((value, until)) if *until > now => Some(value.clone()),
            _ => None,
        };
        Ok(keys.iter().map(live).collect())
    }

    async fn put_many(&self, entries: &[L2Put]) -> Result<(), L2Error> {
        let (now, mut map) = (self.clock.now(), self.lock());
        for put in entries {
            map.insert(put.key.clone(), (put.value.clone(), now + put.lifetime));
        }
        Ok(())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), L2Error> {
        let mut map = self.lock();
        for key in keys {
            map.remove(key);
        }
        Ok(())
    }
}
