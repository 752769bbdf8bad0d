//! Loads from the database: the sources of values, the permit to begin, and the failures.

use std::{collections::HashMap, future::Future, hash::Hash, time::Duration};

use tracing::Instrument;

use crate::{
    Cache,
    admission::{Admitted, Kind, Permit, Refusal, Request},
    entry::Loaded,
    key::{Key, Tenant},
    observe::spans,
    policy::Cacheable,
};

/// The failure of a load that returned neither a value nor an error of the loader. Every caller
/// that waited for the load gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadFailure {
    /// The load panicked, or its value can't be encoded.
    #[error("the load ended without a result")]
    Panicked,
    /// The load took longer than any load may. Or it was not begun, because the database did not
    /// report the tenant's home region in time.
    #[error("the load did not end in time")]
    TimedOut,
    /// The load was not begun. Too many others wait for the database, so it could not have ended in
    /// time.
    #[error("the database has no time for the load")]
    Overloaded,
    /// The load was not begun, because the database can't be reached.
    #[error("the database can't be reached")]
    Unreachable,
    /// The load was not begun, because the type's policy does not let this region read the tenant's
    /// data.
    #[error("not readable in this region")]
    WrongRegion,
    /// The read was refused, because the type is regulated and its accesses can't be recorded.
    /// Either [`CacheConfig::recorder`](crate::CacheConfig::recorder) is missing, or its policy is not
    /// in [`CacheConfig::policies`](crate::CacheConfig::policies).
    #[error("the type is regulated, and the cache has no recorder or doesn't know its policy")]
    NotRecorded,
    /// The read was told not to load ([`CacheMode::OnlyIfCached`](crate::CacheMode::OnlyIfCached)),
    /// and no tier holds an answer that may be served.
    #[error("no tier holds an answer that may be served")]
    NotCached,
}

/// The error of a loader. It is cloned for every caller that waited for the load.
pub trait LoadError: Clone + From<LoadFailure> + Send + Sync + 'static {
    /// Whether the cause may be that the database can't be reached. These are the errors that
    /// [`is_unavailable`](crate::is_unavailable) recognizes, and errors that may only be a lack of
    /// capacity or time. Types that allow it are then served stale.
    fn is_unavailable(&self) -> bool;
}

/// A loaded value, with the time when the database was asked for it, by the instance's clock.
pub(crate) struct TimedLoad<T> {
    pub(crate) loaded: Loaded<T>,
    pub(crate) asked: Duration,
}

/// The reason why a load returned no value.
#[derive(Clone)]
pub(crate) enum Failure<E> {
    /// The load was not begun.
    Refused(Refusal),
    /// The load failed.
    Failed(E),
}

impl<E> Failure<E> {
    /// Whether the load had too little time. A caller that came later may have more.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Refused(Refusal::NoTime | Refusal::TimedOut))
    }
}

impl<E: LoadError> Failure<E> {
    pub(crate) fn into_error(self) -> E {
        match self {
            Self::Refused(refusal) => LoadFailure::from(refusal).into(),
            Self::Failed(error) => error,
        }
    }
}

impl<E> From<Refusal> for Failure<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<E: LoadError> From<LoadFailure> for Failure<E> {
    fn from(failure: LoadFailure) -> Self {
        Self::Failed(failure.into())
    }
}

/// A source of one value: a closure, or a loader that loads several keys at a time.
pub(crate) trait Load<T, E>: Send + 'static {
    /// Waits for its turn and loads the value of `key`.
    fn load(
        self,
        cache: &Cache,
        key: &Key<T>,
        deadline: Duration,
    ) -> impl Future<Output = Result<TimedLoad<T>, Failure<E>>> + Send;
}

/// A closure that is called once.
pub(crate) struct Once<F>(pub(crate) F);

impl<T, E, F, Fut> Load<T, E> for Once<F>
where
    T: Cacheable,
    E: LoadError,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
{
    async fn load(self, cache: &Cache, key: &Key<T>, deadline: Duration) -> Result<TimedLoad<T>, Failure<E>> {
        let permit = cache.permit(T::POLICY.name, key.tenant_of(), deadline).await?;
        let (loaded, asked) = cache.run_loader(permit, T::POLICY.name, self.0()).await?;
        Ok(TimedLoad { loaded, asked })
    }
}

/// A source of several values: a closure, or a loader.
pub(crate) trait LoadMany<I, T, E>: Send + 'static {
    /// Waits for its turn and loads the values of these ids. All of them belong to the same tenant,
    /// or all are shared.
    fn load_many(
        self,
        cache: &Cache,
        tenant: Option<&Tenant>,
        ids: Vec<I>,
        deadline: Duration,
    ) -> impl Future<Output = Result<HashMap<I, TimedLoad<T>>, Failure<E>>> + Send;
}

impl<I, T, E, F, Fut> LoadMany<I, T, E> for Once<F>
where
    I: Eq + Hash + Send + 'static,
    T: Cacheable,
    E: LoadError,
    F: FnOnce(Vec<I>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<HashMap<I, Loaded<T>>, E>> + Send + 'static,
{
    async fn load_many(
        self,
        cache: &Cache,
        tenant: Option<&Tenant>,
        ids: Vec<I>,
        deadline: Duration,
    ) -> Result<HashMap<I, TimedLoad<T>>, Failure<E>> {
        let permit = cache.permit(T::POLICY.name, tenant, deadline).await?;
        let (loaded, asked) = cache.run_loader(permit, T::POLICY.name, self.0(ids)).await?;
        Ok(loaded.into_iter().map(|(id, loaded)| (id, TimedLoad { loaded, asked })).collect())
    }
}

impl Cache {
    /// Waits for a permit to load.
    pub(crate) async fn permit(
        &self,
        pattern: &'static str,
        tenant: Option<&Tenant>,
        deadline: Duration,
    ) -> Result<Permit, Refusal> {
        self.admitted(Request { kind: Kind::Load, pattern, tenant, deadline }).await
    }

    /// Waits for a permit, and counts the wait or the refusal.
    pub(crate) async fn admitted(&self, request: Request<'_>) -> Result<Permit, Refusal> {
        let (admission, metrics, pattern) = (&self.inner.admission, &self.inner.metrics, request.pattern);
        let permit = match admission.request(request) {
            Ok(Admitted::Now(permit)) => return Ok(permit),
            Ok(Admitted::Later(turn)) => {
                let since = self.inner.clock.now();
                let permit = admission.wait(turn, request).await;
                if permit.is_ok() {
                    metrics.waited(pattern, self.inner.clock.now().saturating_sub(since));
                }
                permit
            }
            Err(refusal) => Err(refusal),
        };
        permit.inspect_err(|refusal| metrics.refused(pattern, *refusal))
    }

    /// Runs a loader with a permit, which is given back at the end, and counts the call. It also
    /// returns the time when the call began.
    pub(crate) async fn run_loader<R, E: LoadError>(
        &self,
        permit: Permit,
        pattern: &'static str,
        load: impl Future<Output = Result<R, E>>,
    ) -> Result<(R, Duration), Failure<E>> {
        let asked = self.inner.clock.now();
        let load = tokio::time::timeout(self.inner.load_limit, load).instrument(spans::load(pattern));
        let loaded = load.await.unwrap_or(Err(LoadFailure::TimedOut.into()));
        if loaded.as_ref().err().is_none_or(|error| !error.is_unavailable()) {
            permit.answered();
        }
        drop(permit);
        self.inner.metrics.loaded(pattern, loaded.is_ok(), self.inner.clock.now().saturating_sub(asked));
        Ok((loaded.map_err(Failure::Failed)?, asked))
    }
}
