//! How a cache is set up: what tells instances apart, the tiers, and the limits of time. Each field has a default.

use std::{sync::Arc, time::Duration};

use super::{Clock, Concurrency, Keyring, L2, Policy};

/// How a cache is set up.
pub struct CacheConfig {
    /// First segment of every key in L2: isolates services, regions and tests that share a Redis.
    pub namespace: String,
    /// The region in which the process runs.
    pub region: String,
    /// What L2's entries are sealed with. `None`: they are not, and what is personal stays out of L2.
    pub keys: Option<Keyring>,
    /// Capacity of L1 in bytes; 0: no L1.
    pub l1_bytes: u64,
    /// The shared tier; `None`: no L2.
    pub l2: Option<Arc<dyn L2>>,
    /// Deadline of every call of L2.
    pub l2_deadline: Duration,
    /// D, the staleness bound: for how long one poll of the ledger proves that the floors are current. The longest time for which another instance
    /// may go on serving what a write has made old.
    pub max_staleness: Duration,
    /// Pause between two polls of the ledger.
    pub poll: Duration,
    /// Longest time for a load. The database should end its statements before: this is for lines that went dead.
    pub load_limit: Duration,
    /// How long a request is waited for. A load or write that could not end within it is not begun.
    pub request_limit: Duration,
    /// How many loads and writes use the database at a time; further ones wait. `None`: as [`Concurrency::of`] the pool's connections.
    pub concurrency: Option<Concurrency>,
    /// The instance's clock.
    pub clock: Clock,
    /// The policies of all types that will be cached, for pages and reports.
    pub policies: Vec<Policy>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            namespace: "aside".to_owned(),
            region: "local".to_owned(),
            keys: None,
            l1_bytes: 64 << 20,
            l2: None,
            l2_deadline: Duration::from_millis(20),
            max_staleness: Duration::from_millis(500),
            poll: Duration::from_millis(50),
            load_limit: Duration::from_secs(11),
            request_limit: Duration::from_secs(10),
            concurrency: None,
            clock: Clock::system(),
            policies: Vec::new(),
        }
    }
}
