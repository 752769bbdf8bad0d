//! L2 is a store that several instances share. The trait is small, so another backend is a small
//! folder. Data from L2 are never trusted, so an implementation owes little. It may lose anything
//! at any time, and it may fail.
//!
//! One entry is one key with everything that protects it. Value, lease and floor are therefore lost
//! together or not at all. A *lease* lets one instance of the fleet load while the others wait, and
//! nothing can be filled without it. A *floor* refuses a fill that is older than a known change.
//! Leases fail closed when their memory is lost and floors fail open, so the store has both. They
//! save load on the database and remove old entries from L2. Only the freshness rule guarantees
//! that nothing stale is served.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// The error of a backend. The caller continues without L2.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct L2Error(pub String);

/// A request for the value of a key, or for the lease to load it.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The full key.
    pub key: String,
    /// The lowest entry version that the caller wants.
    pub min_version: i64,
}

/// The answer to a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The value and its entry version.
    Hit {
        /// The sum of the tag versions at which the value was read.
        version: i64,
        /// The entry's bytes.
        value: Bytes,
    },
    /// Another caller has the lease, for at most this time.
    Busy(Duration),
    /// There is no value, and the caller now has the lease.
    Leased,
}

/// A request to store the value of a leased key.
#[derive(Clone, Debug)]
pub struct Fill {
    /// The full key.
    pub key: String,
    /// The entry version and the entry's bytes. `None` gives the lease back.
    pub value: Option<(i64, Bytes)>,
    /// The longest time to store the value. It is at least a millisecond.
    pub lifetime: Duration,
}

/// The answer to a [`Fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filled {
    /// The value is stored.
    Kept,
    /// The value is refused, because the lease was lost (ended, evicted, flushed, taken by
    /// another).
    LeaseLost,
    /// The value is refused, because a newer value, or a change newer than the value, is known.
    Older,
    /// The lease was given back.
    Released,
}

impl Filled {
    /// The result as a label of the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::LeaseLost => "lease_lost",
            Self::Older => "older",
            Self::Released => "released",
        }
    }
}

/// A report that a key changed. The store deletes an older value and refuses to fill older values.
#[derive(Clone, Debug)]
pub struct Invalidation {
    /// The full key.
    pub key: String,
    /// The version of the change. Values with a lower entry version are older.
    pub version: i64,
}

/// The memory of one node of a shared store.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeMemory {
    /// Host and port.
    pub address: String,
    /// The bytes in use.
    pub used_bytes: u64,
    /// The bytes that may be used. `None` means that only the machine limits them.
    pub limit_bytes: Option<u64>,
    /// The eviction policy of the store, in the store's own words.
    pub policy: String,
    /// The number of entries evicted because memory was full, since the store's start.
    pub evicted: u64,
    /// The memory that the system has given to the node, for each byte in use.
    pub fragmentation: f64,
}

impl NodeMemory {
    /// Whether the store evicts entries when its memory is full, instead of refusing writes.
    pub fn evicts(&self) -> bool {
        self.policy != "noeviction"
    }
}

/// A shared store. The caller, and not the backend, adds deadlines and the circuit breaker.
#[async_trait]
pub trait L2: Send + Sync + 'static {
    /// The kind of store, for traces and the log.
    fn name(&self) -> &'static str;

    /// Fetches each key, in their order. A missing value is leased to `token` for `lease`, unless
    /// another caller has the lease.
    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error>;

    /// Fills keys that are leased to `token`, in their order.
    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error>;

    /// Invalidates each key. A key that does not exist is no error and is not created.
    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), L2Error>;

    /// The memory of its nodes. A backend that can't report it returns none.
    async fn memory(&self) -> Result<Vec<NodeMemory>, L2Error> {
        Ok(Vec::new())
    }

    /// Tells all listeners on `channel` that something changed. A hint has no content and proves
    /// nothing. It only makes an instance poll the ledger at once instead of a moment later. It may
    /// therefore be lost, repeated or forged. A backend without messages does nothing.
    async fn hint(&self, _channel: &str) -> Result<(), L2Error> {
        Ok(())
    }

    /// Calls `heard` for every hint on `channel`, until the connection fails.
    async fn listen(&self, _channel: &str, _heard: &(dyn Fn() + Send + Sync)) -> Result<(), L2Error> {
        std::future::pending().await
    }
}
