//! Loads: what brings a value from the database, when it may begin, and what comes of it when it brings nothing.

use std::{collections::HashMap, future::Future, hash::Hash, time::Duration};

use tracing::Instrument;

use super::{
    Cache,
    admission::{Admitted, Kind, Permit, Refusal, Request},
    entry::Loaded,
    key::{Key, Tenant},
    policy::Cacheable,
    spans,
};

/// A load that brought neither a value nor an error of the loader's. Everyone who waited for it gets this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadFailure {
    /// It panicked, or what it brought can't be encoded.
    #[error("the load ended without a result")]
    Panicked,
    /// It took longer than any load may; or it was not begun, because the database didn't say in time where the tenant is at home.
    #[error("the load did not end in time")]
    TimedOut,
    /// It was not begun: so much waits for the database already that it could not have ended in time.
    #[error("the database has no time for the load")]
    Overloaded,
    /// It was not begun: the database can't be reached.
    #[error("the database can't be reached")]
    Unreachable,
    /// It was not begun: the type's policy keeps the tenant's data from being read in this region.
    #[error("not readable in this region")]
    WrongRegion,
}

/// The error of a loader. Cloned to everyone who waited for the load.
pub trait LoadError: Clone + From<LoadFailure> + Send + Sync + 'static {
    /// Whether it may have come about because the database can't be reached: what [`is_unavailable`](super::is_unavailable)
    /// recognizes, and what may only have had no room or no time. Then types that allow it are served stale.
    fn is_unavailable(&self) -> bool;
}

/// What was loaded, and when the database was asked for it, by the instance's clock.
pub(super) struct TimedLoad<T> {
    pub(super) loaded: Loaded<T>,
    pub(super) asked: Duration,
}

/// Why a load brought nothing.
#[derive(Clone)]
pub(super) enum Failure<E> {
    /// It was not begun.
    Refused(Refusal),
    /// It failed.
    Failed(E),
}

impl<E> Failure<E> {
    /// Whether there was no time for it: somebody who came later may have more.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Refused(Refusal::NoTime | Refusal::TimedOut))
    }
}

impl<E: LoadError> Failure<E> {
    pub(super) fn into_error(self) -> E {
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

/// What brings one value: a closure, or a loader that loads several keys at a time.
pub(super) trait Load<T, E>: Send + 'static {
    /// Waits for its turn and loads the value of `key`.
    fn load(
        self,
        cache: &Cache,
        key: &Key<T>,
        deadline: Duration,
    ) -> impl Future<Output = Result<TimedLoad<T>, Failure<E>>> + Send;
}

/// A closure that is called once.
pub(super) struct Once<F>(pub(super) F);

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

/// What brings several values: a closure, or a loader.
pub(super) trait LoadMany<I, T, E>: Send + 'static {
    /// Waits for its turn and loads the values of these ids, which all belong to the same tenant or to everybody.
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
    /// Waits for leave to load.
    pub(super) async fn permit(
        &self,
        pattern: &'static str,
        tenant: Option<&Tenant>,
        deadline: Duration,
    ) -> Result<Permit, Refusal> {
        self.admitted(Request { kind: Kind::Load, pattern, tenant, deadline }).await
    }

    /// Waits for a permit, and counts how that went.
    pub(super) async fn admitted(&self, request: Request<'_>) -> Result<Permit, Refusal> {
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

    /// Loads, with a permit that is given back at the end, and counts the call. Says when it was sent.
    pub(super) async fn run_loader<R, E: LoadError>(
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
