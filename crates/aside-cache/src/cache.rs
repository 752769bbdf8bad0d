//! The cache of one instance: its parts, its start and its end. `read.rs` and `write.rs` have the paths
//! of reads and writes, and `state.rs` what an operator may ask.

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast;
use tokio_util::sync::DropGuard;

use crate::{
    CacheConfig, Clock, Concurrency, ConnectionPool, Policy, Recorder, Tag, Tenant, admission::Admission,
    background::Background, consistency::comparison::ValueComparison, consistency::freshness::Freshness,
    consistency::monitor::ConsistencyMonitor, consistency::poller::LedgerPoller, observe::arrivals::Arrivals,
    observe::metrics::CacheMetrics, protect::keys::Keys, protect::placement::Placement, protect::tenants::Tenants,
    read::replica::Replica, read::single_flight::SingleFlight, recorder, tiers::guard::GuardedL2, tiers::l1::L1,
    tiers::pressure::Pressure,
};

/// The number of tags by which a subscriber of the changes may be late.
const NEWS: usize = 256;

/// The interface to all tiers. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) placement: Placement,
    /// The channel of hints.
    pub(crate) hints: String,
    pub(crate) l1: Arc<L1>,
    pub(crate) l1_bytes: u64,
    pub(crate) l2: Option<Arc<GuardedL2>>,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) single_flight: SingleFlight,
    pub(crate) admission: Admission,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) load_limit: Duration,
    pub(crate) request_limit: Duration,
    pub(crate) metrics: CacheMetrics,
    pub(crate) monitor: Arc<ConsistencyMonitor>,
    pub(crate) comparison: ValueComparison,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) clock: Clock,
    pub(crate) db: ConnectionPool,
    pub(crate) replica: Replica,
    pub(crate) policies: Vec<Policy>,
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    /// Publishes the tags whose versions have risen.
    pub(crate) news: broadcast::Sender<Tag>,
    pub(crate) background: Background,
    _stop_when_dropped: DropGuard,
}

impl Cache {
    /// Sets the cache up and starts polling the ledger in the background. It waits for nothing.
    /// Reads go to the database until the first poll of the ledger succeeds. `db` is a
    /// [`ConnectionPool`], best the one that loads use too, or a pool of sqlx.
    ///
    /// # Panics
    /// If a policy is regulated and there is no [`CacheConfig::recorder`].
    ///
    /// ```
    /// use aside_cache::{Cache, CacheConfig};
    ///
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let pool = sqlx::PgPool::connect_lazy("postgres://127.0.0.1:1/none").unwrap();
    /// assert!(!Cache::start(CacheConfig::default(), pool).is_current(), "not polled yet");
    /// # });
    /// ```
    pub fn start(config: CacheConfig, db: impl Into<ConnectionPool>) -> Self {
        let db = db.into();
        let CacheConfig {
            namespace,
            region,
            keys,
            l1_bytes,
            l2,
            l2_deadline,
            replica,
            max_staleness,
            poll,
            load_limit,
            request_limit,
            concurrency,
            clock,
            policies,
            recorder,
            sampled_loads,
        } = config;
        recorder::require(recorder.as_ref(), &policies);
        let longest = policies.iter().map(|policy| policy.max_age).max().unwrap_or_default();
        let l1 = Arc::new(L1::new(l1_bytes));
        let freshness = Arc::new(Freshness::new(clock.clone(), max_staleness, longest));
        let background = Background::default();
        let (single_flight, metrics, (news, _)) =
            (SingleFlight::default(), CacheMetrics::new(), broadcast::channel(NEWS));
        metrics.prepare(&policies);
        let arrivals = Arc::<Arrivals>::default();
        let poller = LedgerPoller {
            db: db.clone(),
            freshness: Arc::clone(&freshness),
            l1: Arc::clone(&l1),
            lag: Arc::clone(&metrics.lag),
            arrivals: Arc::clone(&arrivals),
            clock: clock.clone(),
            polls: Arc::clone(&metrics.polls),
            poll,
            limit: max_staleness / 2,
            news: news.clone(),
        };
        background.finish(poller.run(background.stop().clone()));
        let l2 = l2.map(|backend| {
            Arc::new(GuardedL2::new(backend, Arc::clone(&metrics.l2), l2_deadline, clock.clone(), &namespace))
        });
        let hints = format!("{namespace}:hints");
        let most = concurrency.unwrap_or_else(|| Concurrency::of(db.inner().options().get_max_connections()));
        let admission = Admission::new(most, clock.clone(), Arc::clone(&freshness));
        let keys = Arc::new(Keys::new(keys));
        let tenants =
            Arc::new(Tenants::new(Arc::clone(&keys), admission.clone(), request_limit, clock.clone(), db.clone()));
        let inner = Inner {
            placement: Placement { namespace, region, keys, tenants: Arc::clone(&tenants) },
            tenants,
            hints,
            l1,
            l1_bytes,
            l2,
            freshness,
            single_flight,
            admission,
            arrivals,
            load_limit,
            request_limit,
            metrics,
            monitor: Arc::new(ConsistencyMonitor::new()),
            comparison: ValueComparison::new(sampled_loads, &policies),
            pressure: Arc::new(Pressure::new()),
            clock,
            db,
            replica: Replica::new(replica),
            policies,
            recorder,
            news,
            _stop_when_dropped: background.stop().clone().drop_guard(),
            background,
        };
        let cache = Self { inner: Arc::new(inner) };
        let admission = cache.inner.admission.clone();
        cache.inner.background.follow(async move { admission.watch().await });
        cache.listen_for_hints();
        cache.check_what_is_served();
        cache.watch_memory();
        cache.follow_tenants();
        cache
    }

    /// Polls the ledger at once when another instance says that something changed.
    fn listen_for_hints(&self) {
        let Some(l2) = self.inner.l2.clone() else { return };
        let (freshness, channel) = (Arc::clone(&self.inner.freshness), self.inner.hints.clone());
        self.inner.background.follow(async move { l2.listen(&channel, || freshness.notify()).await });
    }

    /// Compares a sample of the served answers with the database.
    fn check_what_is_served(&self) {
        let Inner { monitor, db, freshness, clock, .. } = &*self.inner;
        let (monitor, db, freshness, clock) = (Arc::clone(monitor), db.clone(), Arc::clone(freshness), clock.clone());
        self.inner.background.follow(async move { monitor.run(&db, &freshness, &clock).await });
    }

    /// Follows how full the tiers are.
    fn watch_memory(&self) {
        let Inner { pressure, l1, l2, l1_bytes, .. } = &*self.inner;
        let (pressure, l1, l2, capacity) = (Arc::clone(pressure), Arc::clone(l1), l2.clone(), *l1_bytes);
        self.inner.background.follow(async move { pressure.run(&l1, capacity, l2.as_deref()).await });
    }

    /// Follows changes of the tenants' home regions.
    fn follow_tenants(&self) {
        let (tenants, l1) = (Arc::clone(&self.inner.tenants), Arc::clone(&self.inner.l1));
        // The entries of these tenants may have to be stored in another region now.
        self.inner.background.follow(async move { tenants.follow(|left| l1.remove_of(left)).await });
    }

    /// Loads a tenant's record, as reads of its data do. It takes a round trip to the database the
    /// first time.
    pub async fn ensure_tenant_loaded(&self, tenant: &Tenant) {
        self.inner.tenants.ensure_loaded(tenant).await;
    }

    /// Receives the tags whose versions rise from now on, on any instance, when this instance
    /// learns of it.
    pub fn changes(&self) -> broadcast::Receiver<Tag> {
        self.inner.news.subscribe()
    }

    /// The pool of the primary.
    pub fn primary(&self) -> &ConnectionPool {
        &self.inner.db
    }

    /// The policies of all cached types.
    pub fn policies(&self) -> &[Policy] {
        &self.inner.policies
    }

    /// Closes the pools of the primary and of the replica as soon as their connections are not in
    /// use.
    pub async fn close_pools(&self) {
        self.inner.db.close().await;
        self.inner.replica.close().await;
    }

    /// Stops polling the ledger and finishes fills and deletes in flight. Each ends by its own
    /// deadline.
    pub async fn shutdown(&self) {
        self.inner.background.shutdown().await;
    }
}
