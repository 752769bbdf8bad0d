//! L2: a store that several instances share. A small trait, so that another backend is a small folder. Nothing
//! that comes out of it is believed, so an implementation owes only this: it may lose anything at any time, and it may fail.
//!
//! One entry is one key with everything that protects it, so that value, lease and floor are lost together or not at all:
//! a *lease* lets one instance in the fleet load while the others wait, and without it nothing can be filled; a *floor* refuses
//! a fill that is older than a known change. Leases fail closed when their memory is lost, floors fail open; hence both. They
//! save the database work and keep L2 tidy; that nothing stale is served rests on the freshness rule alone.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// The backend failed; the caller goes on without it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct L2Error(pub String);

/// Asks for the value of a key, or for the lease to load it.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The full key.
    pub key: String,
    /// Values of a lower order are not wanted.
    pub min_version: i64,
}

/// The answer to a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The value, and its order.
    Hit {
        /// Sum of the versions the value was read at.
        version: i64,
        /// The entry's bytes.
        value: Bytes,
    },
    /// Somebody else holds the lease, for this long at most.
    Busy(Duration),
    /// There is no value; the caller now holds the lease.
    Leased,
}

/// Hands in the value of a leased key.
#[derive(Clone, Debug)]
pub struct Fill {
    /// The full key.
    pub key: String,
    /// The order of the value, and the entry's bytes; `None` gives the lease back.
    pub value: Option<(i64, Bytes)>,
    /// How long to keep it at most; at least a millisecond.
    pub lifetime: Duration,
}

/// The answer to a [`Fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filled {
    /// The value is kept.
    Kept,
    /// Refused: the lease is gone (ended, evicted, flushed, taken by another).
    LeaseLost,
    /// Refused: a newer value, or a change newer than the value, is known.
    Older,
    /// The lease was given back.
    Released,
}

/// Says that a key changed: what is older than `order` goes, and is not filled any more.
#[derive(Clone, Debug)]
pub struct Invalidation {
    /// The full key.
    pub key: String,
    /// The number of the change.
    pub version: i64,
}

/// The memory of one node of a shared store.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeMemory {
    /// Host and port.
    pub address: String,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes that may be used; `None`: as much as the machine has.
    pub limit_bytes: Option<u64>,
    /// What happens when there is no room, in the words of the store.
    pub policy: String,
    /// Entries that went because there was no room, since the store's start.
    pub evicted: u64,
    /// Memory that the system has given to it, for each byte in use.
    pub fragmentation: f64,
}

impl NodeMemory {
    /// Whether it makes room when there is none, instead of refusing what is written.
    pub fn evicts(&self) -> bool {
        self.policy != "noeviction"
    }
}

/// A shared store. Deadlines and the breaker are the caller's, not the backend's.
#[async_trait]
pub trait L2: Send + Sync + 'static {
    /// What kind of store it is, for traces and the log.
    fn name(&self) -> &'static str;

    /// Fetches each key, in their order; what isn't there is leased to `token` for `lease`, unless somebody else has it.
    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error>;

    /// Fills keys that are leased to `token`, in their order.
    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error>;

    /// Invalidates each key; one that isn't there is no error, and isn't made.
    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), L2Error>;

    /// The memory of its nodes; a backend that can't say returns none.
    async fn memory(&self) -> Result<Vec<NodeMemory>, L2Error> {
        Ok(Vec::new())
    }

    /// Tells whoever listens on `channel` that something changed. A hint carries nothing and proves nothing: it makes an instance
    /// poll the ledger at once instead of a moment later, so it may be lost, repeated or forged. A backend that has no way
    /// to tell leaves it at that.
    async fn hint(&self, _channel: &str) -> Result<(), L2Error> {
        Ok(())
    }

    /// Calls `heard` for every hint on `channel`, until the connection fails.
    async fn listen(&self, _channel: &str, _heard: &(dyn Fn() + Send + Sync)) -> Result<(), L2Error> {
        std::future::pending().await
    }
}
