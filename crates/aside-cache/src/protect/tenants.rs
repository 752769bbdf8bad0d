//! The tenants in the cache, each with its home region and its secret. Postgres stores both, and
//! both may change there at any time, because tenants move and are erased. Old values are then
//! dropped, with all keys that were derived from them.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    admission::{Admission, Kind, Request},
    clock::Clock,
    consistency::ledger,
    database::pool::ConnectionPool,
    key::{Tag, Tenant},
    protect::keys::{Keys, Secret},
    read::single_flight::SingleFlight,
};

/// Pause between two polls of the tenants that are cached.
const PAUSE: Duration = Duration::from_secs(5);
/// A tenant without requests for this long is evicted, with all its entries in L1.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a tenant is loaded again when an erasure made the answer useless.
const ATTEMPTS: usize = 5;

/// The home region and secret of a tenant.
#[derive(PartialEq, Eq)]
pub(crate) struct TenantRecord {
    /// The only region in which its regulated data may be cached. `None`: any region.
    pub(crate) region: Option<String>,
    pub(crate) secret: Secret,
}

/// A tenant in the cache.
struct CachedTenant {
    record: Arc<TenantRecord>,
    /// The time of the last request for its data, in seconds.
    last_used: AtomicU64,
}

/// A generation of secrets.
pub(crate) struct SecretGeneration {
    generation: u64,
    now: Arc<AtomicU64>,
}

impl SecretGeneration {
    /// Whether no secret was dropped since this generation.
    pub(crate) fn is_current(&self) -> bool {
        self.now.load(Ordering::SeqCst) == self.generation
    }
}

/// The cached tenants.
pub(crate) struct Tenants {
    cached: RwLock<HashMap<Tenant, CachedTenant>>,
    /// The number of dropped secrets, counted under the lock of `cached`. Answers to earlier
    /// queries are thrown away.
    generation: Arc<AtomicU64>,
    lookups: SingleFlight,
    keys: Arc<Keys>,
    admission: Admission,
    /// How long a lookup may take, as long as a request.
    request_limit: Duration,
    clock: Clock,
    db: ConnectionPool,
}

impl Tenants {
    pub(crate) fn new(
        keys: Arc<Keys>,
        admission: Admission,
        request_limit: Duration,
        clock: Clock,
        db: ConnectionPool,
    ) -> Self {
        let (cached, generation, lookups) = (RwLock::default(), Arc::default(), SingleFlight::default());
        Self { cached, generation, lookups, keys, admission, request_limit, clock, db }
    }

    /// Loads a tenant if it is not known. The first time takes one round trip, which all concurrent
    /// callers share. If it fails, no tier stores the tenant's data.
    pub(crate) async fn ensure_loaded(self: &Arc<Self>, tenant: &Tenant) {
        if self.mark_used(tenant).is_some() {
            return;
        }
        let (this, name, tenant) = (Arc::clone(self), Tag::all_of(tenant), tenant.clone());
        let lookup = self.lookups.join(&name, (), |()| async move { this.ask(&tenant).await });
        lookup.wait().await;
    }

    async fn ask(&self, tenant: &Tenant) {
        let deadline = self.clock.now() + self.request_limit;
        let request = Request { kind: Kind::Load, pattern: "tenants", tenant: Some(tenant), deadline };
        let Ok(permit) = self.admission.acquire(request).await else { return };
        for _ in 0..ATTEMPTS {
            let requested_at = self.current_generation();
            match ledger::load_or_create_tenant(&self.db, tenant).await {
                Ok(record) => {
                    permit.answered();
                    if self.update(requested_at, vec![(tenant.clone(), Some(record))]).is_some() {
                        return;
                    }
                }
                Err(error) => return tracing::debug!(%error, "a tenant is not known yet"),
            }
        }
    }

    /// Evicts a tenant, so that it is loaded again. Work that still uses its previous secret has no
    /// effect.
    pub(crate) fn evict(&self, tenant: &Tenant) {
        let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::SeqCst);
        let forgotten = cached.remove(tenant);
        drop(cached);
        self.drop_keys(forgotten);
    }

    /// Stores the tenants that the database returned. `None` in `records` is a row that can't be
    /// decoded. Returns the tenants whose record changed. Returns `None` and stores nothing if a
    /// secret was dropped since the query began, because the answer may be older.
    pub(crate) fn update(
        &self,
        requested_at: u64,
        records: Vec<(Tenant, Option<TenantRecord>)>,
    ) -> Option<Vec<Tenant>> {
        let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
        if self.current_generation() != requested_at {
            return None;
        }
        let (mut changed, mut left) = (Vec::new(), Vec::new());
        for (tenant, record) in records {
            if cached.get(&tenant).map(|known| &*known.record) == record.as_ref() {
                continue;
            }
            let record = record.map(|record| CachedTenant { record: Arc::new(record), last_used: self.now().into() });
            let before = match record {
                Some(record) => cached.insert(tenant.clone(), record),
                None => cached.remove(&tenant),
            };
            if let Some(before) = before {
                changed.push(tenant);
                left.push(before);
            }
        }
        if !left.is_empty() {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        drop(cached);
        self.drop_keys(left);
        Some(changed)
    }

    /// Drops the keys that were derived from the secrets of these tenants.
    fn drop_keys(&self, forgotten: impl IntoIterator<Item = CachedTenant>) {
        let Some(keys) = self.keys.current() else { return };
        forgotten.into_iter().for_each(|cached| keys.drop_keys(&cached.record.secret));
    }

    /// Polls whether cached tenants have moved or have another secret, and evicts idle tenants.
    /// `left` gets the tenants of both kinds, because none of their entries may remain in this
    /// process.
    pub(crate) async fn follow(&self, left: impl Fn(&[Tenant])) {
        loop {
            tokio::time::sleep(PAUSE).await;
            left(&self.evict_idle());
            let requested_at = self.current_generation();
            // While the database is down, no load can store data in a wrong region.
            match ledger::load_tenants(&self.db, &self.known()).await {
                Ok(records) => left(&self.update(requested_at, records).unwrap_or_default()),
                Err(error) => tracing::debug!(%error, "no word of the tenants"),
            }
        }
    }

    fn known(&self) -> Vec<Tenant> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Evicts the tenants that had no request for long.
    fn evict_idle(&self) -> Vec<Tenant> {
        let since = self.now().saturating_sub(IDLE_TIMEOUT.as_secs());
        let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
        let quiet = cached.extract_if(|_, known| known.last_used.load(Ordering::Relaxed) < since);
        let (quiet, forgotten): (Vec<_>, Vec<_>) = quiet.unzip();
        drop(cached);
        self.drop_keys(forgotten);
        quiet
    }

    /// The record of a tenant, if it is cached.
    pub(crate) fn record(&self, tenant: &Tenant) -> Option<Arc<TenantRecord>> {
        Some(Arc::clone(&self.cached.read().unwrap_or_else(PoisonError::into_inner).get(tenant)?.record))
    }

    /// The same for a request for the tenant's data. It keeps the tenant from being evicted for a
    /// while.
    pub(crate) fn mark_used(&self, tenant: &Tenant) -> Option<Arc<TenantRecord>> {
        let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        let known = cached.get(tenant)?;
        known.last_used.store(self.now(), Ordering::Relaxed);
        Some(Arc::clone(&known.record))
    }

    /// The present generation of secrets.
    pub(crate) fn generation(&self) -> SecretGeneration {
        SecretGeneration { generation: self.current_generation(), now: Arc::clone(&self.generation) }
    }

    fn current_generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn now(&self) -> u64 {
        self.clock.now().as_secs()
    }
}

#[cfg(all(test, feature = "encryption"))]
pub(crate) mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::{Concurrency, Keyring, consistency::freshness::Freshness};

    /// An empty `Tenants` whose database can't be reached, and one tenant.
    pub(crate) fn tenants() -> (Arc<Tenants>, Tenant) {
        let nowhere =
            PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").expect("an address").into();
        let keys = Keys::new(Keyring::parse(&format!("a:{}", "1".repeat(64))).ok());
        let clock = Clock::adjustable();
        let freshness = Arc::new(Freshness::new(clock.clone(), Duration::from_secs(1), Duration::ZERO));
        let admission = Admission::new(Concurrency::of(10), clock.clone(), freshness);
        let tenants = Tenants::new(Arc::new(keys), admission, Duration::from_secs(1), clock, nowhere);
        (Arc::new(tenants), Tenant::parse("acme").expect("a tenant"))
    }

    pub(crate) fn record(secret: u8) -> Option<TenantRecord> {
        Some(TenantRecord { region: None, secret: [secret; 32] })
    }

    #[tokio::test]
    async fn a_lookup_that_began_before_an_erasure_is_dropped() {
        let (tenants, tenant) = tenants();
        let requested_at = tenants.current_generation();
        tenants.evict(&tenant);
        assert_eq!(tenants.update(requested_at, vec![(tenant.clone(), record(1))]), None);
        assert!(tenants.record(&tenant).is_none(), "the secret may be the one of before");
        assert_eq!(
            tenants.update(tenants.current_generation(), vec![(tenant.clone(), record(2))]),
            Some(vec![]),
            "it is new"
        );
        assert!(tenants.record(&tenant).is_some());
        let requested_at = tenants.current_generation();
        assert_eq!(
            tenants.update(requested_at, vec![(tenant.clone(), record(2))]),
            Some(vec![]),
            "the same again is no change"
        );
        let another = tenants.update(requested_at, vec![(tenant.clone(), record(3))]);
        assert_eq!(another, Some(vec![tenant.clone()]), "given another one by another instance");
        assert_eq!(tenants.update(requested_at, vec![(tenant, record(2))]), None, "which was then asked for too early");
    }

    #[tokio::test]
    async fn tenants_without_requests_are_evicted() {
        let (tenants, tenant) = tenants();
        let quiet = Tenant::parse("quiet").unwrap();
        tenants.update(0, vec![(tenant.clone(), record(1)), (quiet.clone(), record(2))]).unwrap();
        tenants.clock.advance(IDLE_TIMEOUT / 2);
        tenants.ensure_loaded(&tenant).await;
        assert_eq!(tenants.evict_idle(), []);
        tenants.clock.advance(IDLE_TIMEOUT / 2 + Duration::from_secs(1));
        assert_eq!(tenants.evict_idle(), std::slice::from_ref(&quiet));
        assert!(tenants.record(&quiet).is_none());
        assert_eq!(tenants.known(), [tenant]);
    }
}
