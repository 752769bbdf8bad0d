//! The corruptor writes wrong data into Redis.
//!
//! Entries are not authenticated here. A forged entry with the right key and high enough versions
//! is therefore accepted. That case is out of scope, and the README's limits say so.
//!
//! No other manipulation may lead to a wrong answer. The corruptor tries these:
//!
//! * Old entries under their own keys, also those of an earlier epoch of the database.
//! * Entries under the keys of other rows, and garbage.
//! * Forged entry versions, floors and leases.
//! * Keys of another type, and hints that no instance sent.

use std::{collections::HashMap, time::Duration};

use deadpool_redis::redis::{self, RedisResult, aio::MultiplexedConnection};

use crate::{
    fleet::NAMESPACE,
    nemesis::Arena,
    pace::{millis, pause},
};

/// Entries remembered for each key.
const MEMORY: usize = 6;
/// Forged floors and leases expire after this time, so that the run can check whether the cache
/// recovers.
const SHORT: Duration = Duration::from_secs(3);

type Entry = HashMap<String, Vec<u8>>;

/// Entries that were once correct, by the part of the key after namespace, format and epoch.
#[derive(Default)]
pub struct Corruptor {
    stash: HashMap<String, Vec<Entry>>,
}

impl Corruptor {
    /// Remembers the entries that are in Redis now.
    pub async fn listen(&mut self, arena: &Arena) {
        let Ok(mut redis) = arena.redis.lock().await.connect().await else { return };
        let Ok(keys) = keys(&mut redis).await else { return };
        for key in keys {
            let Ok(entry) = redis::cmd("HGETALL").arg(&key).query_async::<Entry>(&mut redis).await else { continue };
            if !entry.contains_key("d") {
                continue;
            }
            let known = self.stash.entry(name(&key).to_owned()).or_default();
            if known.last().is_none_or(|last| last.get("d") != entry.get("d")) {
                known.push(entry);
            }
            if known.len() > MEMORY {
                known.remove(0);
            }
        }
    }

    pub async fn lie(&mut self, arena: &Arena, time: Duration, rng: &mut fastrand::Rng) -> String {
        let until = arena.clock.now() + time.as_micros() as u64;
        let (mut lies, mut replays) = (0_u32, 0_u32);
        while arena.clock.now() < until {
            let connected = arena.redis.lock().await.connect().await;
            if let Ok(mut redis) = connected {
                let keys = keys(&mut redis).await.unwrap_or_default();
                for key in keys {
                    match self.one(&mut redis, &key, rng).await {
                        Ok(true) => replays += 1,
                        Ok(false) => lies += 1,
                        Err(_) => {}
                    }
                }
                let flood =
                    redis::cmd("PUBLISH").arg(format!("{NAMESPACE}:hints")).arg("lie").exec_async(&mut redis).await;
                lies += u32::from(flood.is_ok());
            }
            pause(millis(40)).await;
        }
        format!("{lies} lies, {replays} entries of old")
    }

    /// Manipulates `key` once. Returns whether it stored an authentic old entry.
    async fn one(&self, redis: &mut MultiplexedConnection, key: &str, rng: &mut fastrand::Rng) -> RedisResult<bool> {
        let garbage: Vec<u8> = (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect();
        let set = |field: &'static str, value: Vec<u8>| {
            let mut command = redis::cmd("HSET");
            command.arg(key).arg(field).arg(value);
            command
        };
        let future = b"9000000000000000".to_vec();
        let lie = match rng.u32(..100) {
            0..50 => {
                let Some(entry) = self.stash.get(name(key)).and_then(|known| rng.choice(known)) else {
                    return Ok(false);
                };
                let Some(value) = entry.get("d") else { return Ok(false) };
                // Sometimes the entry version is above every requested one, so that only the
                // instance can refuse the entry.
                let version = if rng.bool() { future } else { entry.get("o").cloned().unwrap_or(future) };
                redis::cmd("HDEL").arg(key).arg("f").exec_async(redis).await?;
                redis::cmd("HSET").arg(key).arg("o").arg(version).arg("d").arg(value).exec_async(redis).await?;
                redis::cmd("PEXPIRE").arg(key).arg(60_000).exec_async(redis).await?;
                return Ok(true);
            }
            50..65 => {
                let other = rng.choice(self.stash.values()).and_then(|known| rng.choice(known));
                set("d", other.and_then(|entry| entry.get("d").cloned()).unwrap_or(garbage))
            }
            65..75 => set("d", garbage),
            75..80 => set("o", garbage),
            80..85 => set("o", future),
            85..90 => set("f", future),
            90..95 => {
                set("t", b"nobody".to_vec()).exec_async(redis).await?;
                set("te", future)
            }
            _ => {
                redis::cmd("DEL").arg(key).exec_async(redis).await?;
                redis::cmd("SET").arg(key).arg(garbage).to_owned()
            }
        };
        lie.exec_async(redis).await?;
        redis::cmd("PEXPIRE").arg(key).arg(SHORT.as_millis() as u64).exec_async(redis).await?;
        Ok(false)
    }
}

/// The keys of all entries, of the current epoch and of others.
async fn keys(redis: &mut MultiplexedConnection) -> RedisResult<Vec<String>> {
    redis::cmd("KEYS").arg(format!("{NAMESPACE}:*:*")).query_async(redis).await
}

/// Returns `product:42` for `consistency:1:0a1b2c:product:42`. The corruptor stores entries of an
/// earlier epoch in the current one under this name.
fn name(key: &str) -> &str {
    key.splitn(4, ':').nth(3).unwrap_or(key)
}
