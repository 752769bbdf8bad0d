//! The read path, from top to bottom: L1, single flight, L2, load, fill. Every cached answer passes the fence's serve rule; a
//! value just loaded for a request is always served to it. What is served while the database is away is in `stale.rs`.

use std::{future::Future, sync::Arc, time::Duration};

use tracing::Instrument;

use super::{
    Cache, LoadError, NotLoaded, Read, codec,
    entry::{Entry, Loaded},
    fence::{Era, Verdict},
    flight::{Boarded, Landed},
    guard::LEASE,
    key::Key,
    l1::{Found, Held, Missed},
    load::{Asked, Failure, Load, Once},
    meter::Served,
    outcome::Outcome,
    policy::{Cacheable, L1_LIFETIME_CAP},
    shared::Filling,
    spans,
    token::ConsistencyToken,
    vault::Stay,
};

/// How a read may use the tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Serve what a tier holds if it is fresh.
    #[default]
    Allowed,
    /// Load, and fill the tiers with the result.
    Refresh,
    /// Load, and leave the tiers as they are.
    NoStore,
}

impl Cache {
    /// The value if a tier holds it and may serve it; never loads.
    pub async fn get<T: Cacheable>(&self, key: &Key<T>) -> Option<Read<T>> {
        let begun = self.inner.clock.now();
        let now = self.inner.fence.wait_for_trust(begun).await;
        let found = match self.l1_young(key, now) {
            Ok(held) => Ok((held, Outcome::L1Hit)),
            Err(missed) => {
                let keys = [(key, missed)];
                let (mut found, _lease) = self.l2_answers(&keys, &self.inner.fence.era()).await;
                found.pop().unwrap_or(Err(missed))
            }
        };
        self.answered(found.ok(), begun)
    }

    /// The value from the nearest tier that may serve it, else loaded by `load` and left in the tiers.
    ///
    /// # Errors
    /// Only those of `load`, and [`NotLoaded`]: that L2 can't fail a read is in the signature. An error goes to everyone who waited
    /// for that load, and is not cached.
    pub async fn get_or_load<T, E, F, Fut>(&self, key: &Key<T>, reuse: Reuse, load: F) -> Result<Read<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        self.read(key, reuse, Once(load)).await
    }

    /// [`Cache::get_or_load`], whatever brings the value.
    pub(super) async fn read<T, E, L>(&self, key: &Key<T>, reuse: Reuse, load: L) -> Result<Read<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        let begun = self.inner.clock.now();
        let span = spans::read(T::POLICY.pattern);
        let missed = match reuse {
            Reuse::Allowed => {
                let now = self.inner.fence.wait_for_trust(begun).await;
                match self.l1_answer(key, now) {
                    Ok(held) => {
                        if self.is_due(&held, now) {
                            self.board(key, load, Outcome::LoadedExpired, self.deadline(begun));
                        }
                        spans::ended(&span, Outcome::L1Hit);
                        return Ok(self.answer((held, Outcome::L1Hit), true, begun));
                    }
                    Err(missed) => missed,
                }
            }
            Reuse::Refresh | Reuse::NoStore => Outcome::Bypass,
        };
        // In a box, so that an L1 hit doesn't carry the room that all the rest takes.
        let found = Box::pin(self.beyond_l1(key, reuse, load, missed, begun).instrument(span.clone())).await;
        spans::ended(&span, found.as_ref().map_or(Outcome::Failed, |(_, outcome)| *outcome));
        if found.is_err() {
            self.count::<T>(Outcome::Failed, begun);
        }
        found.map(|found| self.answer(found, self.keeps(key), begun))
    }

    async fn beyond_l1<T, E, L>(
        &self,
        key: &Key<T>,
        reuse: Reuse,
        load: L,
        missed: Missed,
        begun: Duration,
    ) -> Result<Found<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        self.welcome(key).await?;
        let deadline = self.deadline(begun);
        match reuse {
            Reuse::Allowed if T::POLICY.stale_on_outage.is_zero() => {
                self.join_or_load(key, load, missed, deadline).await
            }
            Reuse::Allowed => self.or_stale(self.join_or_load(key, load, missed, deadline), || self.stale(key)).await,
            Reuse::Refresh => self.load_apart(key, load, missed, Filling::Unleased, deadline).await,
            Reuse::NoStore => self.load_apart(key, load, missed, Filling::Nothing, deadline).await,
        }
    }

    /// When the answer to a request that began at `begun` is of no use any more.
    pub(super) fn deadline(&self, begun: Duration) -> Duration {
        begun + self.inner.request_limit
    }

    /// Sees to it that the key's tenant is known, and refuses what may not be read in this region.
    pub(super) async fn welcome<T: Cacheable>(&self, key: &Key<T>) -> Result<(), NotLoaded> {
        if let Some(tenant) = key.tenant_of() {
            self.inner.tenants.meet(tenant).await;
        }
        match self.inner.vault.stay(&T::POLICY, key.tenant_of()) {
            Stay::Refused => Err(NotLoaded::Abroad),
            Stay::Unknown if self.inner.db.is_down() => Err(NotLoaded::Unreachable),
            Stay::Unknown => Err(NotLoaded::Late),
            Stay::Nowhere | Stay::Process | Stay::Anywhere => Ok(()),
        }
    }

    /// The result of the flight under way, or of one of the caller's own.
    async fn join_or_load<T, E, L>(
        &self,
        key: &Key<T>,
        mut load: L,
        missed: Missed,
        deadline: Duration,
    ) -> Result<Found<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        let mut waited = false;
        loop {
            match self.board(key, load, missed, deadline).landed().await {
                Landed::Led(landed) => {
                    return landed.unwrap_or(Err(NotLoaded::Aborted.into())).map_err(Failure::into_error);
                }
                Landed::Joined(landed, unused) => {
                    match landed.unwrap_or(Err(NotLoaded::Aborted.into())) {
                        // The first load joined may have begun before a write that was acknowledged before this request came. The
                        // next one began after the first had ended, so after this request came: it is as good as a load of the
                        // caller's own, also while nothing proves that floors are current. So two loads serve all who wait.
                        Ok((held, _)) if waited || self.judge(key, &held, self.inner.clock.now()) == Verdict::Serve => {
                            return Ok((held, Outcome::Collapsed));
                        }
                        // The time of whoever began it was over; this caller may have some left.
                        Err(failure) if !failure.is_late() => return Err(failure.into_error()),
                        Ok(_) | Err(_) => (load, waited) = (unused, true),
                    }
                }
            }
        }
    }

    /// Joins the flight of a key, or starts one, which goes on without anyone who waits for it.
    fn board<T, E, L>(
        &self,
        key: &Key<T>,
        load: L,
        missed: Missed,
        deadline: Duration,
    ) -> Boarded<Result<Found<T>, Failure<E>>, L>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        self.inner.flights.board(key.name(), load, |load| {
            let (this, key) = (self.clone(), key.clone());
            async move { this.fetch_or_load(&key, load, missed, deadline).await }.in_current_span()
        })
    }

    /// The flight: L2, else the database.
    async fn fetch_or_load<T, E, L>(
        &self,
        key: &Key<T>,
        load: L,
        missed: Missed,
        deadline: Duration,
    ) -> Result<Found<T>, Failure<E>>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        // The flight before this one may have landed since L1 was asked; a refresh is begun because of what L1 holds.
        if missed != Outcome::LoadedExpired
            && self.inner.l1.holds(key)
            && let Ok(held) = self.l1_answer(key, self.inner.clock.now())
        {
            return Ok((held, Outcome::L1Hit));
        }
        // The era as it is before anything is read: what is read now must not be filed under a later one.
        let era = self.inner.fence.era();
        match self.l2_answer(key, &era, missed).await {
            Ok(found) => Ok(found),
            Err((missed, mut filling)) => {
                let queued = self.inner.clock.now();
                let loaded = load.load(self, key, deadline).await?;
                // A lease that was kept while the load waited for its turn is over: another one is asked for when there is a value.
                if matches!(filling, Filling::Leased(_)) && loaded.asked.saturating_sub(queued) >= LEASE {
                    filling = Filling::Unleased;
                }
                self.keep(key, loaded, &era, missed, filling)
            }
        }
    }

    /// A load in a task of its own that nobody joins.
    async fn load_apart<T, E, L>(
        &self,
        key: &Key<T>,
        load: L,
        outcome: Outcome,
        filling: Filling,
        deadline: Duration,
    ) -> Result<Found<T>, E>
    where
        T: Cacheable,
        E: LoadError,
        L: Load<T, E>,
    {
        let (this, key) = (self.clone(), key.clone());
        let load = async move {
            let era = this.inner.fence.era();
            let loaded = load.load(&this, &key, deadline).await?;
            this.keep(&key, loaded, &era, outcome, filling)
        };
        let loaded = tokio::spawn(load.in_current_span()).await;
        loaded.unwrap_or(Err(NotLoaded::Aborted.into())).map_err(Failure::into_error)
    }

    /// L1's answer, if it may be served.
    fn l1_answer<T: Cacheable>(&self, key: &Key<T>, now: Duration) -> Result<Held<T>, Missed> {
        let held = self.inner.l1.get(key).ok_or(Outcome::LoadedCold)?;
        match self.judge(key, &held, now) {
            // Nobody has asked for it since long before its lifetime ended.
            Verdict::Serve if now >= held.fresh_until + T::POLICY.l1.min(L1_LIFETIME_CAP) => {
                Err(Outcome::LoadedExpired)
            }
            verdict => verdict.admit(Held::clone(&held)),
        }
    }

    /// L1's answer, if it may be served and has not outlived its lifetime: for readers who can't see to it that it is refreshed.
    pub(super) fn l1_young<T: Cacheable>(&self, key: &Key<T>, now: Duration) -> Result<Held<T>, Missed> {
        let held = self.l1_answer(key, now)?;
        if now < held.fresh_until { Ok(held) } else { Err(Outcome::LoadedExpired) }
    }

    /// Whether an answer that may be served should be refreshed behind it: its lifetime in L1 is over, or nearly. The more its
    /// load costs the earlier, and by chance, so that not all instances load at once (XFetch).
    fn is_due<T>(&self, held: &Held<T>, now: Duration) -> bool {
        let left = held.fresh_until.saturating_sub(now);
        // The logarithm is taken only where it can matter: it is above 7 once in a thousand times.
        let early = || left < held.cost.mul_f64(-fastrand::f64().max(f64::MIN_POSITIVE).ln());
        left.is_zero() || (left < 7 * held.cost && early())
    }

    /// Makes an entry of what was loaded, and fills the tiers: L1 at once, L2 in the background.
    fn keep<T: Cacheable, E: LoadError>(
        &self,
        key: &Key<T>,
        loaded: Asked<T>,
        era: &Era,
        outcome: Outcome,
        filling: Filling,
    ) -> Result<Found<T>, Failure<E>> {
        let held = self.held(loaded, era)?;
        self.fill(&[(key.clone(), held.clone())], era, filling);
        Ok((held, outcome))
    }

    /// An entry of a loaded value.
    pub(super) fn held<T: Cacheable>(
        &self,
        Asked { loaded, asked }: Asked<T>,
        era: &Era,
    ) -> Result<Held<T>, NotLoaded> {
        let Loaded { value, labels, loaded_at } = loaded;
        let now = self.inner.clock.now();
        // The snapshot was taken before the answer arrived, and the statement reached the database after it was sent. A replica names a
        // moment that is long before its snapshot, so the database's time now counts as well.
        let read_by = loaded_at.after(now.saturating_sub(asked)).max(self.inner.fence.db_now());
        let entry = codec::entry(value, labels.into(), (loaded_at, read_by)).map_err(|error| {
            tracing::error!(%error, pattern = T::POLICY.pattern, "a value can't be encoded");
            NotLoaded::Aborted
        })?;
        Ok(self.hold(Arc::new(entry), era, now.saturating_sub(asked)))
    }

    /// Gives an entry its lifetime in L1; `cost`: how long it took to get it.
    pub(super) fn hold<T: Cacheable>(&self, entry: Arc<Entry<T>>, era: &Era, cost: Duration) -> Held<T> {
        let lifetime = T::POLICY.l1_lifetime(entry.value.is_none());
        // A load that waited for long, for a busy pool for instance, must not make its entry due all the time.
        let cost = cost.min(lifetime / 20);
        Held { entry, era: era.clone(), fresh_until: self.inner.clock.now() + lifetime, cost }
    }

    /// Whether L1 may hold the value of a key.
    pub(super) fn keeps<T: Cacheable>(&self, key: &Key<T>) -> bool {
        let stay = || self.inner.vault.stay(&T::POLICY, key.tenant_of());
        self.inner.l1_bytes > 0 && matches!(stay(), Stay::Process | Stay::Anywhere)
    }

    pub(super) fn put_l1<T: Cacheable>(&self, key: &Key<T>, held: &Held<T>) {
        if self.keeps(key) {
            self.inner.l1.put(key, held.clone(), T::POLICY.kept(held.entry.value.is_none()));
        }
    }

    /// The serve rule for an entry of type `T`.
    pub(super) fn judge<T: Cacheable>(&self, key: &Key<T>, held: &Held<T>, now: Duration) -> Verdict {
        let max_age = T::POLICY.max_age(held.entry.value.is_none());
        self.inner.fence.judge(now, key.name(), held, max_age)
    }

    /// A read that ended without an answer.
    pub(super) fn count<T: Cacheable>(&self, outcome: Outcome, begun: Duration) {
        let took = self.inner.clock.now().saturating_sub(begun);
        self.inner.metrics.read(T::POLICY.pattern, outcome, took);
    }

    /// The answer to a request that began at `begun`; counted. `kept`: whether L1 may hold it.
    pub(super) fn answer<T: Cacheable>(&self, (held, outcome): Found<T>, kept: bool, begun: Duration) -> Read<T> {
        let Held { entry, era, fresh_until, .. } = held;
        let now = self.inner.clock.now();
        self.inner.metrics.read(T::POLICY.pattern, outcome, now.saturating_sub(begun));
        let since_read = self.inner.fence.age(entry.loaded_at, now);
        if outcome != Outcome::Stale {
            self.inner.meter.sample(&Served { labels: &entry.labels, era: era.number, age: since_read, begun });
        }
        let age = (!outcome.is_load()).then(|| self.inner.fence.since_validation(since_read, now));
        let token = ConsistencyToken::new(era, entry.read_by);
        let ttl_ms = fresh_until.as_millis() as i64 - now.as_millis() as i64;
        Read { entry, outcome, age, since_read, ttl_ms, kept, token }
    }

    /// What a look into the tiers found, or that it found nothing; counted.
    pub(super) fn answered<T: Cacheable>(&self, found: Option<Found<T>>, begun: Duration) -> Option<Read<T>> {
        if found.is_none() {
            self.count::<T>(Outcome::NotCached, begun);
        }
        found.map(|found| self.answer(found, true, begun))
    }
}

impl Verdict {
    pub(super) fn admit<T>(self, held: Held<T>) -> Result<Held<T>, Missed> {
        match self {
            Self::Serve => Ok(held),
            Self::Expired => Err(Outcome::LoadedExpired),
            Self::Fenced => Err(Outcome::LoadedFenced),
            Self::Untrusted => Err(Outcome::LoadedUntrusted),
        }
    }
}
