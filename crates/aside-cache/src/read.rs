//! The read path, from top to bottom: L1, single flight, L2, load, write-back. Every cached answer
//! passes the freshness rule. A value that was loaded for a request is always served to it.
//! `stale_if_error.rs` has the answers while the database is down.

pub(crate) mod batch;
pub(crate) mod get;
pub(crate) mod l2_read;
pub(crate) mod load;
pub(crate) mod loader;
pub(crate) mod replica;
pub(crate) mod select;
pub(crate) mod single_flight;
pub(crate) mod stale_if_error;

use std::{future::Future, sync::Arc, time::Duration};

use tracing::Instrument;

use crate::{
    Cache, Cached, LoadError, LoadFailure,
    consistency::freshness::{Epoch, Verdict},
    entry::{Entry, Loaded},
    key::Key,
    observe::spans,
    outcome::Outcome,
    policy::{Cacheable, L1_LIFETIME_CAP},
    protect::placement::Storage,
    read::l2_read::WriteBack,
    read::load::{Failure, Load, Once, TimedLoad},
    read::single_flight::{Flight, Waiter},
    tiers::codec,
    tiers::guard::LEASE,
    tiers::l1::{Hit, LocalEntry, MissReason},
};

/// How a read may use the tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheMode {
    /// Serve an entry of a tier if it is fresh.
    #[default]
    Default,
    /// Load, and store the result in the tiers.
    Reload,
    /// Load, and leave the tiers unchanged.
    NoStore,
    /// Never load. If no tier holds an answer that may be served, the read fails with
    /// [`LoadFailure::NotCached`](crate::LoadFailure::NotCached).
    OnlyIfCached,
}

impl Cache {
    /// The value from a tier, if it is fresh. Never loads.
    pub(crate) async fn peek<T: Cacheable>(&self, key: &Key<T>) -> Option<Cached<T>> {
        self.ensure_recorded::<T>().ok()?;
        let begun = self.inner.clock.now();
        let now = self.inner.freshness.wait_until_current(begun).await;
        let found = match self.l1_unexpired(key, now) {
            Ok(local) => Ok((local, Outcome::L1Hit)),
            Err(missed) => {
                let keys = [(key, missed)];
                let (mut found, _lease) = self.l2_answers(&keys, &self.inner.freshness.epoch()).await;
                found.pop().unwrap_or(Err(missed))
            }
        };
        self.finish_lookup(key, found.ok(), begun)
    }

    /// The value from the nearest tier with a fresh entry. Without one, `load` loads and stores it.
    ///
    /// # Errors
    /// Only those of `load`, and [`LoadFailure`]. The signature shows that L2 can't fail a read.
    /// All requests that waited for a load get its error, and the error is not cached.
    pub async fn get_or_load<T, E, F, Fut>(&self, key: &Key<T>, mode: CacheMode, load: F) -> Result<Cached<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        self.read(key, mode, Once(load)).await
    }

    /// [`Cache::get_or_load`] for every kind of load.
    pub(crate) async fn read<T, E, L>(&self, key: &Key<T>, mode: CacheMode, load: L) -> Result<Cached<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        self.ensure_recorded::<T>()?;
        let begun = self.inner.clock.now();
        let span = spans::read(T::POLICY.name);
        let missed = match mode {
            CacheMode::Default => {
                let now = self.inner.freshness.wait_until_current(begun).await;
                match self.l1_answer(key, now) {
                    Ok(local) => {
                        if self.is_due(&local, now) {
                            self.join(key, load, Outcome::LoadedExpired, self.deadline(begun));
                        }
                        spans::ended(&span, Outcome::L1Hit);
                        return Ok(self.finish(key, (local, Outcome::L1Hit), true, begun));
                    }
                    Err(missed) => missed,
                }
            }
            CacheMode::Reload | CacheMode::NoStore => Outcome::Bypass,
            CacheMode::OnlyIfCached => {
                return Box::pin(self.peek(key)).await.ok_or_else(|| LoadFailure::NotCached.into());
            }
        };
        // The box keeps the large future of a miss out of the future of an L1 hit.
        let found = Box::pin(self.on_l1_miss(key, mode, load, missed, begun).instrument(span.clone())).await;
        spans::ended(&span, found.as_ref().map_or(Outcome::Failed, |(_, outcome)| *outcome));
        if found.is_err() {
            self.count(key, Outcome::Failed, begun);
        }
        found.map(|found| self.finish(key, found, self.may_store(key), begun))
    }

    async fn on_l1_miss<T, E, L>(
        &self,
        key: &Key<T>,
        mode: CacheMode,
        load: L,
        missed: MissReason,
        begun: Duration,
    ) -> Result<Hit<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        self.ensure_readable_here(key).await?;
        let deadline = self.deadline(begun);
        match mode {
            CacheMode::Default if T::POLICY.stale_if_error.is_zero() => {
                self.join_or_load(key, load, missed, deadline).await
            }
            CacheMode::Default => {
                self.or_stale(self.join_or_load(key, load, missed, deadline), || self.stale(key)).await
            }
            CacheMode::Reload => self.load_uncoalesced(key, load, missed, WriteBack::IfFree, deadline).await,
            CacheMode::NoStore => self.load_uncoalesced(key, load, missed, WriteBack::Skip, deadline).await,
            CacheMode::OnlyIfCached => Err(LoadFailure::NotCached.into()),
        }
    }

    /// The time after which the answer to a request that began at `begun` is useless.
    pub(crate) fn deadline(&self, begun: Duration) -> Duration {
        begun + self.inner.request_limit
    }

    /// Loads an unknown tenant, and refuses data that may not be read in this region.
    pub(crate) async fn ensure_readable_here<T: Cacheable>(&self, key: &Key<T>) -> Result<(), LoadFailure> {
        if let Some(tenant) = key.tenant_of() {
            self.inner.tenants.ensure_loaded(tenant).await;
        }
        match self.inner.placement.storage(&T::POLICY, key.tenant_of()) {
            Storage::Denied => Err(LoadFailure::WrongRegion),
            Storage::Unknown if self.inner.db.is_down() => Err(LoadFailure::Unreachable),
            Storage::Unknown => Err(LoadFailure::TimedOut),
            Storage::None | Storage::L1Only | Storage::L1AndL2 => Ok(()),
        }
    }

    /// The result of the flight in progress, or of a new flight that this caller leads.
    async fn join_or_load<T, E, L>(
        &self,
        key: &Key<T>,
        mut load: L,
        missed: MissReason,
        deadline: Duration,
    ) -> Result<Hit<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        let mut waited = false;
        loop {
            match self.join(key, load, missed, deadline).wait().await {
                Flight::Leader(result) => {
                    return result.unwrap_or(Err(LoadFailure::Panicked.into())).map_err(Failure::into_error);
                }
                Flight::Follower(result, unused) => {
                    match result.unwrap_or(Err(LoadFailure::Panicked.into())) {
                        // The first load joined may have begun before a write that was acknowledged
                        // before this request. The second load began after this request. Its result
                        // is as good as a load of the caller's own, even if no poll proves that
                        // floors are current. Two loads thus serve all callers.
                        Ok((local, _))
                            if waited
                                || self.check_freshness(key, &local, self.inner.clock.now()) == Verdict::Serve =>
                        {
                            return Ok((local, Outcome::Collapsed));
                        }
                        // The leader's time was over, but this caller may have some left.
                        Err(failure) if !failure.is_late() => return Err(failure.into_error()),
                        Ok(_) | Err(_) => (load, waited) = (unused, true),
                    }
                }
            }
        }
    }

    /// Joins the flight of a key, or starts one. The flight continues even if all callers give up.
    fn join<T, E, L>(
        &self,
        key: &Key<T>,
        load: L,
        missed: MissReason,
        deadline: Duration,
    ) -> Waiter<Result<Hit<T>, Failure<E>>, L>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        self.inner.single_flight.join(key.tag(), load, |load| {
            let (this, key) = (self.clone(), key.clone());
            async move { this.fetch_or_load(&key, load, missed, deadline).await }.in_current_span()
        })
    }

    /// The work of a flight: it asks L2, and loads from the database on a miss.
    async fn fetch_or_load<T, E, L>(
        &self,
        key: &Key<T>,
        load: L,
        missed: MissReason,
        deadline: Duration,
    ) -> Result<Hit<T>, Failure<E>>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        // The previous flight may have filled L1 meanwhile. A refresh replaces the entry of L1.
        if missed != Outcome::LoadedExpired
            && self.inner.l1.contains(key)
            && let Ok(local) = self.l1_answer(key, self.inner.clock.now())
        {
            return Ok((local, Outcome::L1Hit));
        }
        // The epoch comes first, because a value must not be stored under a later one.
        let epoch = self.inner.freshness.epoch();
        match self.l2_answer(key, &epoch, missed).await {
            Ok(found) => {
                self.sample_load(key, load, deadline);
                Ok(found)
            }
            Err((missed, mut write_back)) => {
                let queued = self.inner.clock.now();
                let loaded = load.load(self, key, deadline).await?;
                // The lease expired in the queue. Another one is requested with the value.
                if matches!(write_back, WriteBack::WithLease(_)) && loaded.asked.saturating_sub(queued) >= LEASE {
                    write_back = WriteBack::IfFree;
                }
                self.store(key, loaded, &epoch, missed, write_back)
            }
        }
    }

    /// Loads in a task of its own, which no other request joins.
    async fn load_uncoalesced<T, E, L>(
        &self,
        key: &Key<T>,
        load: L,
        outcome: Outcome,
        write_back: WriteBack,
        deadline: Duration,
    ) -> Result<Hit<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        let (this, key) = (self.clone(), key.clone());
        let load = async move {
            let epoch = this.inner.freshness.epoch();
            let loaded = load.load(&this, &key, deadline).await?;
            this.store(&key, loaded, &epoch, outcome, write_back)
        };
        let loaded = tokio::spawn(load.in_current_span()).await;
        loaded.unwrap_or(Err(LoadFailure::Panicked.into())).map_err(Failure::into_error)
    }

    /// The entry of L1, if it may be served.
    fn l1_answer<T: Cacheable>(&self, key: &Key<T>, now: Duration) -> Result<LocalEntry<T>, MissReason> {
        let local = self.inner.l1.get(key).ok_or(Outcome::LoadedCold)?;
        match self.check_freshness(key, &local, now) {
            // The lifetime ended long ago, and no request has asked for the entry since.
            Verdict::Serve if now >= local.fresh_until + T::POLICY.l1_ttl.min(L1_LIFETIME_CAP) => {
                Err(Outcome::LoadedExpired)
            }
            verdict => verdict.into_result(LocalEntry::clone(&local)),
        }
    }

    /// The entry of L1 within its lifetime, for callers that can't start a refresh.
    pub(crate) fn l1_unexpired<T: Cacheable>(&self, key: &Key<T>, now: Duration) -> Result<LocalEntry<T>, MissReason> {
        let local = self.l1_answer(key, now)?;
        if now < local.fresh_until { Ok(local) } else { Err(Outcome::LoadedExpired) }
    }

    /// Whether a served entry should be refreshed: its lifetime in L1 is over, or nearly over.
    /// Costly loads start earlier, at random times, so instances don't load all at once (XFetch).
    fn is_due<T>(&self, local: &LocalEntry<T>, now: Duration) -> bool {
        let left = local.fresh_until.saturating_sub(now);
        // The logarithm exceeds 7 once in a thousand times, so it is rarely needed.
        let early = || left < local.cost.mul_f64(-fastrand::f64().max(f64::MIN_POSITIVE).ln());
        left.is_zero() || (left < 7 * local.cost && early())
    }

    /// Makes an entry of a loaded value and stores it: in L1 at once, in L2 in the background.
    fn store<T: Cacheable, E: LoadError>(
        &self,
        key: &Key<T>,
        loaded: TimedLoad<T>,
        epoch: &Epoch,
        outcome: Outcome,
        write_back: WriteBack,
    ) -> Result<Hit<T>, Failure<E>> {
        let local = self.make_entry(loaded, epoch)?;
        self.fill(&[(key.clone(), local.clone())], epoch, write_back);
        Ok((local, outcome))
    }

    pub(crate) fn make_entry<T: Cacheable>(
        &self,
        TimedLoad { loaded, asked }: TimedLoad<T>,
        epoch: &Epoch,
    ) -> Result<LocalEntry<T>, LoadFailure> {
        let Loaded { value, tag_versions, loaded_at, valid_until } = loaded;
        let now = self.inner.clock.now();
        // The statement began after it was sent, and its snapshot precedes the answer. A replica
        // reports an earlier time, so the present time of the database counts too.
        let snapshot_upper_bound = loaded_at.after(now.saturating_sub(asked)).max(self.inner.freshness.db_now());
        let entry = codec::entry(value, tag_versions.into(), (loaded_at, snapshot_upper_bound)).map_err(|error| {
            tracing::error!(%error, pattern = T::POLICY.name, "failed to encode a value");
            LoadFailure::Panicked
        })?;
        let entry = Entry { valid_until, ..entry };
        Ok(self.set_l1_expiry(Arc::new(entry), epoch, now.saturating_sub(asked)))
    }

    /// Sets the lifetime of an entry in L1. `cost` is the time that its load took.
    pub(crate) fn set_l1_expiry<T: Cacheable>(
        &self,
        entry: Arc<Entry<T>>,
        epoch: &Epoch,
        cost: Duration,
    ) -> LocalEntry<T> {
        let lifetime = T::POLICY.l1_lifetime(entry.value.is_none());
        let now = self.inner.clock.now();
        // A load that waited, for example for a busy pool, must not make its entry always due. An
        // early refresh would not prolong an answer that has an end.
        let (lifetime, cost) = match self.inner.freshness.left(entry.valid_until, now) {
            Some(left) if left < lifetime => (left, Duration::ZERO),
            _ => (lifetime, cost.min(lifetime / 20)),
        };
        LocalEntry { entry, epoch: epoch.clone(), fresh_until: now + lifetime, cost }
    }

    /// Whether L1 may store the value of a key.
    pub(crate) fn may_store<T: Cacheable>(&self, key: &Key<T>) -> bool {
        let storage = || self.inner.placement.storage(&T::POLICY, key.tenant_of());
        self.inner.l1_bytes > 0 && matches!(storage(), Storage::L1Only | Storage::L1AndL2)
    }

    pub(crate) fn store_l1<T: Cacheable>(&self, key: &Key<T>, local: &LocalEntry<T>) {
        let retention = self.until_end(local, T::POLICY.l1_retention(local.entry.value.is_none()));
        if self.may_store(key) && !retention.is_zero() {
            self.inner.l1.insert(key, local.clone(), retention);
        }
    }

    /// A lifetime in a tier, which ends with the answer.
    pub(crate) fn until_end<T>(&self, local: &LocalEntry<T>, lifetime: Duration) -> Duration {
        let left = self.inner.freshness.left(local.entry.valid_until, self.inner.clock.now());
        left.map_or(lifetime, |left| left.min(lifetime))
    }

    pub(crate) fn check_freshness<T: Cacheable>(&self, key: &Key<T>, local: &LocalEntry<T>, now: Duration) -> Verdict {
        let max_age = T::POLICY.max_age(local.entry.value.is_none());
        self.inner.freshness.check(now, key.tag(), local, max_age)
    }
}

impl Verdict {
    pub(crate) fn into_result<T>(self, local: LocalEntry<T>) -> Result<LocalEntry<T>, MissReason> {
        match self {
            Self::Serve => Ok(local),
            Self::Expired => Err(Outcome::LoadedExpired),
            Self::Invalidated => Err(Outcome::LoadedInvalidated),
            Self::NotCurrent => Err(Outcome::LoadedNotCurrent),
        }
    }
}
