//! Reads and fills many keys at once. One call asks L2 for all keys that are not in L1. The loader
//! is called once for the keys that are in neither tier. Batches don't join single flights, because
//! a batch is already one query.

use std::{collections::HashMap, future::Future, hash::Hash};

use tracing::Instrument;

use crate::{
    Cache, CacheMode, Cached, LoadError, LoadFailure,
    consistency::freshness::Epoch,
    entry::Loaded,
    key::Key,
    observe::spans,
    outcome::Outcome,
    policy::Cacheable,
    read::l2_read::WriteBack,
    read::load::{Failure, LoadMany, Once, TimedLoad},
    tiers::l1::Hit,
};

impl Cache {
    /// The values that the tiers contain and may serve, in the order of `keys`. It never loads.
    pub(crate) async fn peek_many<T: Cacheable>(&self, keys: &[Key<T>]) -> Vec<Option<Cached<T>>> {
        if self.ensure_recorded::<T>().is_err() {
            return keys.iter().map(|_| None).collect();
        }
        let begun = self.inner.clock.now();
        let (found, _lease) = self.tier_answers(keys, &self.inner.freshness.epoch()).await;
        let answers = found.into_iter().zip(keys);
        answers.map(|(found, key)| self.finish_lookup(key, found.ok(), begun)).collect()
    }

    /// The values of `keys`, in their order. `load` is called at most once, with the ids that no
    /// tier can answer. It returns an answer for each of them, and an absence is an answer too.
    ///
    /// # Errors
    /// Returns the errors of `load`, and [`LoadFailure`] if `load` panics or leaves an id out.
    pub async fn get_or_load_many<I, T, E, F, Fut>(
        &self,
        keys: Vec<(I, Key<T>)>,
        mode: CacheMode,
        load: F,
    ) -> Result<Vec<(I, Cached<T>)>, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        F: FnOnce(Vec<I>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<HashMap<I, Loaded<T>>, E>> + Send + 'static,
    {
        self.read_many(keys, mode, Once(load)).await
    }

    /// [`Cache::get_or_load_many`] for any source of the values.
    pub(crate) async fn read_many<I, T, E, L>(
        &self,
        keys: Vec<(I, Key<T>)>,
        mode: CacheMode,
        load: L,
    ) -> Result<Vec<(I, Cached<T>)>, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        self.ensure_recorded::<T>()?;
        let begun = self.inner.clock.now();
        let asked = keys.clone();
        let read = self.spawn_batch(keys, mode, load);
        let found = match mode {
            _ if T::POLICY.stale_if_error.is_zero() => read.await,
            CacheMode::Default => self.or_stale(read, || self.stale_many(&asked)).await,
            CacheMode::Reload | CacheMode::NoStore | CacheMode::OnlyIfCached => read.await,
        };
        if found.is_err() {
            let outcome = if mode == CacheMode::OnlyIfCached { Outcome::NotCached } else { Outcome::Failed };
            asked.iter().for_each(|(_, key)| self.count(key, outcome, begun));
        }
        let answer =
            |((id, found), (_, key)): (_, &(I, Key<T>))| (id, self.finish(key, found, self.may_store(key), begun));
        Ok(found?.into_iter().zip(&asked).map(answer).collect())
    }

    /// Makes sure that the tiers contain the values of `keys`, and returns how many they are. No
    /// client requested these reads, so they are not counted as reads.
    ///
    /// # Errors
    /// Returns the errors of [`Cache::get_or_load_many`].
    pub async fn warm_many<I, T, E, F, Fut>(&self, keys: Vec<(I, Key<T>)>, mode: CacheMode, load: F) -> Result<usize, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        F: FnOnce(Vec<I>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<HashMap<I, Loaded<T>>, E>> + Send + 'static,
    {
        self.warm_by(keys, mode, Once(load)).await
    }

    /// [`Cache::warm_many`] for any source of the values.
    pub(crate) async fn warm_by<I, T, E, L>(&self, keys: Vec<(I, Key<T>)>, mode: CacheMode, load: L) -> Result<usize, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        Ok(self.spawn_batch(keys, mode, load).await?.len())
    }

    /// The values that the tiers contain for all keys, if all of them may be served stale.
    async fn stale_many<I: Clone, T: Cacheable>(&self, keys: &[(I, Key<T>)]) -> Option<Vec<(I, Hit<T>)>> {
        let mut found = Vec::with_capacity(keys.len());
        for (id, key) in keys {
            found.push((id.clone(), self.stale(key).await?));
        }
        Some(found)
    }

    /// Runs a batch in a separate task, which continues when its caller is dropped.
    async fn spawn_batch<I, T, E, L>(
        &self,
        keys: Vec<(I, Key<T>)>,
        mode: CacheMode,
        load: L,
    ) -> Result<Vec<(I, Hit<T>)>, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        let (this, span) = (self.clone(), spans::read(T::POLICY.name));
        let batch = tokio::spawn(async move { this.batch(keys, mode, load).await }.instrument(span));
        batch.await.unwrap_or(Err(LoadFailure::Panicked.into())).map_err(Failure::into_error)
    }

    async fn batch<I, T, E, L>(
        &self,
        keys: Vec<(I, Key<T>)>,
        mode: CacheMode,
        load: L,
    ) -> Result<Vec<(I, Hit<T>)>, Failure<E>>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        let deadline = self.deadline(self.inner.clock.now());
        for (_, key) in &keys {
            self.ensure_readable_here(key).await?;
        }
        let epoch = self.inner.freshness.epoch();
        let bypass = || keys.iter().map(|_| Err(Outcome::Bypass)).collect();
        let (found, write_back) = match mode {
            CacheMode::Default | CacheMode::OnlyIfCached => {
                let keys: Vec<_> = keys.iter().map(|(_, key)| key.clone()).collect();
                self.tier_answers(&keys, &epoch).await
            }
            CacheMode::Reload => (bypass(), WriteBack::IfFree),
            CacheMode::NoStore => (bypass(), WriteBack::Skip),
        };
        let asked = keys.iter().cloned().zip(found);
        let missing: Vec<I> = asked.clone().filter(|(_, found)| found.is_err()).map(|((id, _), _)| id).collect();
        let tenant = keys.first().and_then(|(_, key)| key.tenant_of().cloned());
        let mut loaded = if missing.is_empty() {
            HashMap::new()
        } else if mode == CacheMode::OnlyIfCached {
            return Err(LoadFailure::NotCached.into());
        } else {
            load.load_many(self, tenant.as_ref(), missing, deadline).await?
        };
        let mut filled = Vec::new();
        let mut answers = Vec::new();
        for ((id, key), found) in asked {
            let found = match found {
                Ok(found) => found,
                Err(missed) => {
                    let local = self.make_entry(loaded.remove(&id).ok_or(LoadFailure::Panicked)?, &epoch)?;
                    filled.push((key, local.clone()));
                    (local, missed)
                }
            };
            answers.push((id, found));
        }
        self.fill(&filled, &epoch, write_back);
        Ok(answers)
    }

    /// Stores values in the tiers that were read outside of `get_or_load`.
    ///
    /// # Errors
    /// Returns [`LoadFailure`] if a value can't be encoded. Nothing is stored then.
    pub fn put_many<T: Cacheable>(&self, entries: Vec<(Key<T>, Loaded<T>)>) -> Result<(), LoadFailure> {
        let epoch = self.inner.freshness.epoch();
        // The time of the request to the database is not known here. The time of the statement is
        // used instead.
        let now = self.inner.clock.now();
        let asked = |loaded: &Loaded<T>| now.saturating_sub(self.inner.freshness.age(loaded.loaded_at, now));
        let make = |(key, loaded)| {
            let asked = asked(&loaded);
            Ok((key, self.make_entry(TimedLoad { loaded, asked }, &epoch)?))
        };
        let local = entries.into_iter().map(make).collect::<Result<Vec<_>, LoadFailure>>()?;
        self.fill(&local, &epoch, WriteBack::IfFree);
        Ok(())
    }

    async fn tier_answers<T: Cacheable>(
        &self,
        keys: &[Key<T>],
        epoch: &Epoch,
    ) -> (Vec<Result<Hit<T>, Outcome>>, WriteBack) {
        let now = self.inner.freshness.wait_until_current(self.inner.clock.now()).await;
        let mut found = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let answer = self.l1_unexpired(key, now).map(|local| (local, Outcome::L1Hit));
            if let Err(missed) = answer {
                missing.push((at, (key, missed)));
            }
            found.push(answer);
        }
        let (places, asked): (Vec<usize>, Vec<_>) = missing.into_iter().unzip();
        let (answers, write_back) = self.l2_answers(&asked, epoch).await;
        for (at, answer) in places.into_iter().zip(answers) {
            found[at] = answer;
        }
        (found, write_back)
    }
}
