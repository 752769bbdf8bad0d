//! Memcached as L2, by its meta commands over one connection that all calls share. An entry is one
//! item, and every change is a compare-and-swap. The item is read, changed by this instance, and
//! written only if no other client wrote meanwhile. Value, lease and floor are changed and lost
//! together, as in Redis, although the server runs no scripts.
//!
//! Four things differ from Redis, and each costs a load at most. Leases end by the clocks of the
//! instances. Lifetimes are whole seconds. There are no hints. A value that doesn't fit into an
//! item (1 MiB) is not stored.

mod connection;
mod item;

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;

use self::{
    connection::{ConnectionManager, Reply},
    item::{Mutation, Observed},
};
use crate::tiers::l2::{Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error, NodeMemory};

/// How often a change is retried against concurrent changes of the same entry.
const MAX_ATTEMPTS: usize = 8;
/// The longest key that Memcached accepts, in bytes.
const MAX_KEY_BYTES: usize = 250;

/// An implementation of the L2 trait for Memcached.
pub struct MemcachedL2 {
    connection: ConnectionManager,
}

impl MemcachedL2 {
    /// A single server, by host and port. It connects on the first call, so a Memcached that is
    /// down delays no start.
    pub fn new(address: String) -> Self {
        Self { connection: ConnectionManager::new(address) }
    }

    /// Changes entries in one batch. It reads them, asks `decide` for each change and writes the
    /// changes. A conflict with another client is retried. After too many conflicts the answer is
    /// `on_conflict`.
    async fn change<A: Clone>(
        &self,
        keys: &[&str],
        decide: impl Fn(usize, &Observed) -> (A, Mutation) + Sync,
        on_conflict: A,
    ) -> Result<Vec<A>, L2Error> {
        let mut answers: Vec<Option<A>> = vec![None; keys.len()];
        for _ in 0..MAX_ATTEMPTS {
            let open: Vec<usize> = (0..keys.len()).filter(|at| answers[*at].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let mut reads = Vec::new();
            for at in &open {
                reads.extend_from_slice(format!("mg {} v c t\r\n", name(keys[*at])).as_bytes());
            }
            let found = self.connection.ask(reads, open.len()).await?;
            let (mut writes, mut hoped) = (Vec::new(), Vec::new());
            for (at, reply) in open.into_iter().zip(found) {
                let found = Observed::from(reply)?;
                let (answer, becomes) = decide(at, &found);
                if becomes.command(&name(keys[at]), found.cas, &mut writes) {
                    hoped.push((at, answer));
                } else {
                    answers[at] = Some(answer);
                }
            }
            if hoped.is_empty() {
                break;
            }
            for ((at, answer), reply) in hoped.iter().zip(self.connection.ask(writes, hoped.len()).await?) {
                match reply {
                    Reply::Stored => answers[*at] = Some(answer.clone()),
                    Reply::CasConflict | Reply::NotFound => {}
                    _ => return Err(unexpected()),
                }
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| on_conflict.clone())).collect())
    }
}

#[async_trait]
impl L2 for MemcachedL2 {
    fn name(&self) -> &'static str {
        "memcached"
    }

    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error> {
        let names: Vec<&str> = keys.iter().map(|fetch| fetch.key.as_str()).collect();
        self.change(&names, |at, found| found.fetch(keys[at].min_version, token, lease), Fetched::Busy(lease)).await
    }

    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error> {
        let names: Vec<&str> = fills.iter().map(|fill| fill.key.as_str()).collect();
        self.change(&names, |at, found| found.fill(&fills[at], token), Filled::LeaseLost).await
    }

    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error> {
        let names: Vec<&str> = keys.iter().map(|change| change.key.as_str()).collect();
        self.change(&names, |at, found| ((), found.invalidate(keys[at].version)), ()).await.map(|_| ())
    }

    async fn ping(&self) -> Result<(), L2Error> {
        match self.connection.ask(b"mn\r\n".to_vec(), 1).await?.pop() {
            Some(Reply::Stored) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn memory(&self) -> Result<Vec<NodeMemory>, L2Error> {
        let said = self.connection.ask(b"stats\r\nstats settings\r\n".to_vec(), 2).await?;
        let [Reply::Stats(state), Reply::Stats(settings)] = &said[..] else { return Err(unexpected()) };
        let find = |said: &str, name: &str| {
            let mut pairs = said.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
            pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
        };
        let number = |name: &str| find(state, name).and_then(|text| text.parse::<u64>().ok());
        Ok(vec![NodeMemory {
            address: self.connection.address.clone(),
            used_bytes: number("bytes").ok_or_else(unexpected)?,
            limit_bytes: number("limit_maxbytes").filter(|limit| *limit > 0),
            policy: if find(settings, "evictions").as_deref() == Some("off") { "noeviction" } else { "lru" }.to_owned(),
            evicted: number("evictions").unwrap_or_default(),
            fragmentation: f64::NAN,
        }])
    }
}

/// The name of a key in Memcached. A key that Memcached would reject is replaced by its SHA-256.
fn name(key: &str) -> Cow<'_, str> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(key);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    Cow::Owned(format!("sha256:{}", digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn unexpected() -> L2Error {
    L2Error("an answer of another kind".into())
}
