//! The configuration of a cache: identity, tiers and time limits. Each field has a default.

use std::{sync::Arc, time::Duration};

use crate::{Clock, Concurrency, ConnectionPool, Keyring, L2, Policy, Recorder};

/// The configuration of a cache.
///
/// ```
/// use aside_cache::CacheConfig;
/// use std::time::Duration;
///
/// let config = CacheConfig { namespace: "shop".into(), l1_bytes: 16 << 20, ..CacheConfig::default() };
/// assert_eq!(config.max_staleness, Duration::from_millis(500));
/// ```
pub struct CacheConfig {
    /// The first segment of every key in L2. It isolates services, regions and tests that share a
    /// Redis.
    pub namespace: String,
    /// The region in which the process runs.
    pub region: String,
    /// The keys that seal the entries of L2. With `None`, entries are not sealed, and personal data
    /// are not stored in L2.
    pub keys: Option<Keyring>,
    /// The capacity of L1 in bytes. 0 disables L1.
    pub l1_bytes: u64,
    /// The shared tier. `None` disables L2.
    pub l2: Option<Arc<dyn L2>>,
    /// The deadline of every call of L2.
    pub l2_deadline: Duration,
    /// A replica of Postgres for loads. An answer of the replica is used only if it is proved to be
    /// no older than this instance may serve.
    pub replica: Option<ConnectionPool>,
    /// D, the staleness bound: the time for which one poll of the ledger proves that the floors are
    /// current. It is the longest time for which another instance may serve the version before a
    /// write.
    pub max_staleness: Duration,
    /// The pause between two polls of the ledger.
    pub poll: Duration,
    /// The longest time for a load. The database should end its statements earlier. This limit is
    /// for connections that no longer answer.
    pub load_limit: Duration,
    /// The time limit of a request. A load or write that could not end within it is not begun.
    pub request_limit: Duration,
    /// The number of loads and writes that use the database at a time. Further ones wait. With
    /// `None`,
    /// [`Concurrency::of`] computes it from the pool's connections.
    pub concurrency: Option<Concurrency>,
    /// The instance's clock.
    pub clock: Clock,
    /// The policies of all types that will be cached, for pages, reports and records.
    pub policies: Vec<Policy>,
    /// Records the accesses to regulated types, whose policies must be in `policies`. With `None`, no
    /// policy may be regulated.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// The pause between two sampled loads of a type. They compare values that L2 answers again and
    /// again with the database, and find changes that raised no tag. With `None` there are none, and
    /// values are compared only when they are loaded anyway.
    pub sampled_loads: Option<Duration>,
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
            replica: None,
            max_staleness: Duration::from_millis(500),
            poll: Duration::from_millis(50),
            load_limit: Duration::from_secs(11),
            request_limit: Duration::from_secs(10),
            concurrency: None,
            clock: Clock::system(),
            policies: Vec::new(),
            recorder: None,
            sampled_loads: Some(Duration::from_secs(1)),
        }
    }
}
