//! A loader that can load many values at a time. Loads that wait for their turn share one
//! statement. This is the DataLoader pattern, with the wait for a permit as its window. A load that
//! finds a free permit begins at once and alone, so batching delays nothing.
//!
//! Each key has its own flight, its own lease and its own tag versions. Only the statement is
//! shared. If it fails, all its members fail. A value that it leaves out is loaded alone. One row
//! that can't be read therefore fails no other load.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;
use tracing::Instrument;

use crate::{
    Cache, CacheMode, Cached, ConnectionPool, LoadError, LoadFailure,
    admission::{Admitted, Kind, Permit, Refusal, Request},
    entry::Loaded,
    key::{Key, Tenant},
    policy::Cacheable,
    read::load::{Failure, Load, LoadMany, TimedLoad},
};

/// The largest number of keys in one statement.
pub(crate) const MAX_BATCH: usize = 100;

type Boxed<R> = Pin<Box<dyn Future<Output = R> + Send>>;
type KeyOf<I, T> = dyn Fn(&I) -> Key<T> + Send + Sync;
type LoadsOne<I, T, E> = dyn Fn(ConnectionPool, I) -> Boxed<Result<Loaded<T>, E>> + Send + Sync;
type LoadsMany<I, T, E> = dyn Fn(ConnectionPool, Vec<I>) -> Boxed<Result<HashMap<I, Loaded<T>>, E>> + Send + Sync;

/// The declaration of how values of one type are loaded, one by its id or many by theirs. Cheap to
/// clone.
pub struct Loader<I, T, E>(Arc<Parts<I, T, E>>);

/// Loads that may share a statement: those of one tenant, or of shared data, that may use the same
/// servers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct BatchKey {
    tenant: Option<Tenant>,
    mode: CacheMode,
}

/// The batches that wait for their turn and are not full.
type Open<I, T, E> = HashMap<BatchKey, Arc<Batch<I, T, E>>>;

struct Parts<I, T, E> {
    cache: Cache,
    key: Box<KeyOf<I, T>>,
    one: Box<LoadsOne<I, T, E>>,
    many: Box<LoadsMany<I, T, E>>,
    open: Mutex<Open<I, T, E>>,
}

/// The loads of one batch, which wait for their turn together. `None` means that the batch is
/// closed.
struct Batch<I, T, E>(Mutex<Option<Vec<Member<I, T, E>>>>);

/// One load of a batch.
struct Member<I, T, E> {
    id: I,
    deadline: Duration,
    answer: oneshot::Sender<Result<TimedLoad<T>, Failure<E>>>,
}

/// One load of a batch, for the flight that waits for it.
struct Membership<I, T, E> {
    batch: Arc<Batch<I, T, E>>,
    answer: oneshot::Receiver<Result<TimedLoad<T>, Failure<E>>>,
}

impl<I, T, E> Clone for Loader<I, T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Cache {
    /// Declares how values of one type are loaded: by their keys, by the load of one, and by the
    /// load of many. Both get the pool of the primary, or of the replica if there is one. `many`
    /// returns an answer for each id, and an absence is an answer too. An id that it leaves out is
    /// loaded by `one`.
    pub fn loader<I, T, E, K, L, One, M, Many>(&self, key: K, one: L, many: M) -> Loader<I, T, E>
    where
        K: Fn(&I) -> Key<T> + Send + Sync + 'static,
        E: fmt::Display,
        L: Fn(ConnectionPool, I) -> One + Send + Sync + 'static,
        One: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
        M: Fn(ConnectionPool, Vec<I>) -> Many + Send + Sync + 'static,
        Many: Future<Output = Result<HashMap<I, Loaded<T>>, E>> + Send + 'static,
    {
        Loader(Arc::new(Parts {
            cache: self.clone(),
            key: Box::new(key),
            one: Box::new(move |pool, id| Box::pin(one(pool, id))),
            many: Box::new(move |pool, ids| Box::pin(many(pool, ids))),
            open: Mutex::default(),
        }))
    }
}

impl<I, T, E> Loader<I, T, E>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    T: Cacheable,
    E: LoadError + fmt::Display,
{
    /// [`Cache::get_or_load`] for one value.
    ///
    /// # Errors
    /// Returns the errors of the load, and [`LoadFailure`].
    pub async fn get(&self, id: I, mode: CacheMode) -> Result<Cached<T>, E> {
        let key = (self.0.key)(&id);
        self.0.cache.read(&key, mode, One { loader: self.clone(), id, mode }).await
    }

    /// [`Cache::get_or_load_many`] for these values, in their order.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::get`].
    pub async fn get_many(&self, ids: Vec<I>, mode: CacheMode) -> Result<Vec<(I, Cached<T>)>, E> {
        self.0.cache.read_many(self.keyed(ids), mode, Many { loader: self.clone(), mode }).await
    }

    /// [`Cache::warm_many`] for these values.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::get`].
    pub async fn warm_many(&self, ids: Vec<I>, mode: CacheMode) -> Result<usize, E> {
        self.0.cache.warm_by(self.keyed(ids), mode, Many { loader: self.clone(), mode }).await
    }

    fn keyed(&self, ids: Vec<I>) -> Vec<(I, Key<T>)> {
        let keyed = |id| {
            let key = (self.0.key)(&id);
            (id, key)
        };
        ids.into_iter().map(keyed).collect()
    }

    /// Joins a waiting batch that is not full, or requests a permit. With a free permit the load
    /// begins alone, and without one a new batch begins.
    fn enter(
        &self,
        open: &mut Open<I, T, E>,
        batch_key: &BatchKey,
        id: &I,
        deadline: Duration,
    ) -> Result<Entered<I, T, E>, Refusal> {
        if let Some(membership) = open.get(batch_key).and_then(|batch| Batch::join(batch, id, deadline)) {
            return Ok(Entered::Member(membership));
        }
        let request =
            Request { kind: Kind::Load, pattern: T::POLICY.name, tenant: batch_key.tenant.as_ref(), deadline };
        let turn = match self.0.cache.inner.admission.request(request) {
            Ok(Admitted::Now(permit)) => return Ok(Entered::Alone(permit)),
            Ok(Admitted::Later(turn)) => turn,
            Err(refusal) => {
                self.0.cache.inner.metrics.refused(T::POLICY.name, refusal);
                return Err(refusal);
            }
        };
        let batch = Arc::new(Batch(Mutex::new(Some(Vec::new()))));
        open.insert(batch_key.clone(), Arc::clone(&batch));
        let membership = Batch::join(&batch, id, deadline).ok_or(Refusal::Full)?;
        let (this, batch_key) = (self.clone(), batch_key.clone());
        // The batch has its own task, because the flight that began it may give up before the
        // others.
        tokio::spawn(async move { this.send(&batch, batch_key, turn.await).await }.in_current_span());
        Ok(Entered::Member(membership))
    }

    /// Loads the values of a batch when its turn has come.
    async fn send(&self, batch: &Arc<Batch<I, T, E>>, batch_key: BatchKey, turn: Result<Permit, Refusal>) {
        let members = self.close(batch, &batch_key);
        let permit = match turn {
            Ok(permit) => permit,
            Err(refusal) => return members.into_iter().for_each(|member| self.refuse(member, refusal)),
        };
        let (now, usual) = (self.0.cache.inner.clock.now(), permit.usual());
        let wanted = members.into_iter().filter(|member| !member.answer.is_closed());
        let (members, late): (Vec<_>, Vec<_>) = wanted.partition(|member| now + usual <= member.deadline);
        late.into_iter().for_each(|member| self.refuse(member, Refusal::TimedOut));
        let ids: Vec<I> = members.iter().map(|member| member.id.clone()).collect();
        if ids.len() > 1 {
            self.0.cache.inner.metrics.merged(T::POLICY.name, ids.len());
        }
        match self.load(permit, ids, batch_key.mode).await {
            Err(failure) => members.into_iter().for_each(|member| drop(member.answer.send(Err(failure.clone())))),
            Ok(mut loaded) => {
                let mut left_out = Vec::new();
                for member in members {
                    match loaded.remove(&member.id) {
                        Some(asked) => drop(member.answer.send(Ok(asked))),
                        None => left_out.push(member),
                    }
                }
                for Member { id, deadline, answer } in left_out {
                    drop(answer.send(self.load_alone(&batch_key, id, deadline).await));
                }
            }
        }
    }

    /// Loads a value that a load of many left out. A failure affects only this value.
    async fn load_alone(
        &self,
        BatchKey { tenant, mode }: &BatchKey,
        id: I,
        deadline: Duration,
    ) -> Result<TimedLoad<T>, Failure<E>> {
        let permit = self.0.cache.permit(T::POLICY.name, tenant.as_ref(), deadline).await?;
        self.load_one(permit, id, *mode).await
    }

    async fn load_one(&self, permit: Permit, id: I, mode: CacheMode) -> Result<TimedLoad<T>, Failure<E>> {
        let Parts { cache, key, one, .. } = &*self.0;
        let key = key(&id);
        let load = cache.route(&key, mode, |pool| one(pool, id.clone()));
        let (loaded, asked) = cache.run_loader(permit, T::POLICY.name, load).await?;
        Ok(TimedLoad { loaded, asked })
    }

    /// Loads these values with a permit, one value by `one` and more by `many`.
    async fn load(&self, permit: Permit, ids: Vec<I>, mode: CacheMode) -> Result<HashMap<I, TimedLoad<T>>, Failure<E>> {
        match ids.as_slice() {
            [] => return Ok(HashMap::new()),
            [id] => return Ok(HashMap::from([(id.clone(), self.load_one(permit, id.clone(), mode).await?)])),
            _ => {}
        }
        let Parts { cache, key, many, .. } = &*self.0;
        let load = cache.route_many(ids, key, mode, many);
        let (loaded, asked) = cache.run_loader(permit, T::POLICY.name, load).await?;
        Ok(loaded.into_iter().map(|(id, loaded)| (id, TimedLoad { loaded, asked })).collect())
    }

    /// Closes a batch, so that no load can join it, and takes its members.
    fn close(&self, batch: &Arc<Batch<I, T, E>>, batch_key: &BatchKey) -> Vec<Member<I, T, E>> {
        let mut open = self.open();
        if open.get(batch_key).is_some_and(|other| Arc::ptr_eq(other, batch)) {
            open.remove(batch_key);
        }
        batch.lock().take().unwrap_or_default()
    }

    fn refuse(&self, member: Member<I, T, E>, refusal: Refusal) {
        if member.answer.send(Err(refusal.into())).is_ok() {
            self.0.cache.inner.metrics.refused(T::POLICY.name, refusal);
        }
    }

    /// Waits for the answer to one load of a batch.
    async fn answer(
        &self,
        Membership { batch, mut answer }: Membership<I, T, E>,
        deadline: Duration,
    ) -> Result<TimedLoad<T>, Failure<E>> {
        let (inner, pattern) = (&self.0.cache.inner, T::POLICY.name);
        let since = inner.clock.now();
        let waiter = inner.admission.waiter(pattern);
        let answered = match tokio::time::timeout(deadline.saturating_sub(since), &mut answer).await {
            Err(_) if !batch.is_sent() => {
                inner.metrics.refused(pattern, Refusal::TimedOut);
                return Err(Refusal::TimedOut.into());
            }
            // The statement ends by its own time limit, and it fills the tiers.
            Err(_) => answer.await,
            Ok(answered) => answered,
        };
        drop(waiter);
        // The sender is dropped without an answer when the load panicked.
        let asked = answered.unwrap_or(Err(LoadFailure::Panicked.into()))?;
        inner.metrics.waited(pattern, asked.asked.saturating_sub(since));
        Ok(asked)
    }

    fn open(&self) -> MutexGuard<'_, Open<I, T, E>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a load after [`Loader::enter`]: alone with a permit, or a member of a batch.
enum Entered<I, T, E> {
    Alone(Permit),
    Member(Membership<I, T, E>),
}

impl<I: Clone + Eq, T, E> Batch<I, T, E> {
    /// Adds a load. Returns `None` if the batch is full or closed, or already loads the same id.
    fn join(batch: &Arc<Self>, id: &I, deadline: Duration) -> Option<Membership<I, T, E>> {
        let mut members = batch.lock();
        let room = |members: &&mut Vec<Member<I, T, E>>| {
            members.len() < MAX_BATCH && members.iter().all(|member| member.id != *id)
        };
        let members = members.as_mut().filter(room)?;
        let (sender, answer) = oneshot::channel();
        members.push(Member { id: id.clone(), deadline, answer: sender });
        Some(Membership { batch: Arc::clone(batch), answer })
    }
}

impl<I, T, E> Batch<I, T, E> {
    fn is_sent(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Member<I, T, E>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The load of one value by a loader.
struct One<I, T, E> {
    loader: Loader<I, T, E>,
    id: I,
    mode: CacheMode,
}

/// The load of several values by a loader.
struct Many<I, T, E> {
    loader: Loader<I, T, E>,
    mode: CacheMode,
}

impl<I, T, E> Load<T, E> for One<I, T, E>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    T: Cacheable,
    E: LoadError + fmt::Display,
{
    async fn load(self, _: &Cache, key: &Key<T>, deadline: Duration) -> Result<TimedLoad<T>, Failure<E>> {
        let Self { loader, id, mode } = self;
        let batch_key = BatchKey { tenant: key.tenant_of().cloned(), mode };
        let entered = loader.enter(&mut loader.open(), &batch_key, &id, deadline)?;
        match entered {
            Entered::Alone(permit) => loader.load_one(permit, id, mode).await,
            Entered::Member(membership) => loader.answer(membership, deadline).await,
        }
    }
}

impl<I, T, E> LoadMany<I, T, E> for Many<I, T, E>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    T: Cacheable,
    E: LoadError + fmt::Display,
{
    async fn load_many(
        self,
        _: &Cache,
        tenant: Option<&Tenant>,
        ids: Vec<I>,
        deadline: Duration,
    ) -> Result<HashMap<I, TimedLoad<T>>, Failure<E>> {
        let Self { loader, mode } = self;
        let batch_key = BatchKey { tenant: tenant.cloned(), mode };
        let mut waiting = Vec::new();
        let permit = {
            let mut open = loader.open();
            let mut permit = None;
            for id in &ids {
                match loader.enter(&mut open, &batch_key, id, deadline)? {
                    Entered::Member(membership) => waiting.push((id.clone(), membership)),
                    Entered::Alone(own) => {
                        permit = Some(own);
                        break;
                    }
                }
            }
            permit
        };
        let mut loaded = match permit {
            // These ids did not join a batch before there was a permit.
            Some(permit) => loader.load(permit, ids[waiting.len()..].to_vec(), mode).await?,
            None => HashMap::new(),
        };
        for (id, membership) in waiting {
            loaded.insert(id, loader.answer(membership, deadline).await?);
        }
        for id in ids {
            if let Entry::Vacant(left_out) = loaded.entry(id.clone()) {
                left_out.insert(loader.load_alone(&batch_key, id, deadline).await?);
            }
        }
        Ok(loaded)
    }
}
