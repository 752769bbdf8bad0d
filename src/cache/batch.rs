//! Reading and filling many keys at once: L2 is asked in one call for what L1 lacks, and the loader is called once for what
//! both lack. Batches don't join single flights: a batch is already one query.

use std::{collections::HashMap, future::Future, hash::Hash};

use tracing::Instrument;

use super::{
    Cache, LoadError, NotLoaded, Read, Reuse,
    entry::Loaded,
    fence::Era,
    key::Key,
    l1::Found,
    load::{Asked, Failure, LoadMany, Once},
    outcome::Outcome,
    policy::Cacheable,
    shared::Filling,
    spans,
};

impl Cache {
    /// The values that a tier holds and may serve, in the order of `keys`; never loads.
    pub async fn get_many<T: Cacheable>(&self, keys: &[Key<T>]) -> Vec<Option<Read<T>>> {
        let begun = self.inner.clock.now();
        let (found, _lease) = self.tier_answers(keys, &self.inner.fence.era()).await;
        found.into_iter().map(|found| self.answered(found.ok(), begun)).collect()
    }

    /// The values of `keys` in their order. `load` is called at most once, with the ids that no tier can answer, and returns
    /// an answer for each of them (an absence is an answer).
    ///
    /// # Errors
    /// Those of `load`, and [`NotLoaded`] when it panics or leaves an id out.
    pub async fn get_or_load_many<I, T, E, F, Fut>(
        &self,
        keys: Vec<(I, Key<T>)>,
        reuse: Reuse,
        load: F,
    ) -> Result<Vec<(I, Read<T>)>, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        F: FnOnce(Vec<I>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<HashMap<I, Loaded<T>>, E>> + Send + 'static,
    {
        self.read_many(keys, reuse, Once(load)).await
    }

    /// [`Cache::get_or_load_many`], whatever brings the values.
    pub(super) async fn read_many<I, T, E, L>(
        &self,
        keys: Vec<(I, Key<T>)>,
        reuse: Reuse,
        load: L,
    ) -> Result<Vec<(I, Read<T>)>, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        let (begun, count) = (self.inner.clock.now(), keys.len());
        let asked = keys.clone();
        let read = self.detached_batch(keys, reuse, load);
        let found = match reuse {
            _ if T::POLICY.stale_on_outage.is_zero() => read.await,
            Reuse::Allowed => self.or_stale(read, || self.stale_many(&asked)).await,
            Reuse::Refresh | Reuse::NoStore => read.await,
        };
        if found.is_err() {
            (0..count).for_each(|_| self.count::<T>(Outcome::Failed, begun));
        }
        let answer = |((id, found), (_, key)): (_, &(I, Key<T>))| (id, self.answer(found, self.keeps(key), begun));
        Ok(found?.into_iter().zip(&asked).map(answer).collect())
    }

    /// The same without an answer: sees to it that the tiers hold the values of `keys`, and says how many. These are not reads that
    /// anybody asked for, so they are not counted as such.
    ///
    /// # Errors
    /// As [`Cache::get_or_load_many`].
    pub async fn warm_many<I, T, E, F, Fut>(&self, keys: Vec<(I, Key<T>)>, reuse: Reuse, load: F) -> Result<usize, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        F: FnOnce(Vec<I>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<HashMap<I, Loaded<T>>, E>> + Send + 'static,
    {
        self.warm_by(keys, reuse, Once(load)).await
    }

    /// [`Cache::warm_many`], whatever brings the values.
    pub(super) async fn warm_by<I, T, E, L>(&self, keys: Vec<(I, Key<T>)>, reuse: Reuse, load: L) -> Result<usize, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        Ok(self.detached_batch(keys, reuse, load).await?.len())
    }

    /// What tiers hold of all keys, if all of it may be served stale.
    async fn stale_many<I: Clone, T: Cacheable>(&self, keys: &[(I, Key<T>)]) -> Option<Vec<(I, Found<T>)>> {
        let mut found = Vec::with_capacity(keys.len());
        for (id, key) in keys {
            found.push((id.clone(), self.stale(key).await?));
        }
        Some(found)
    }

    /// A batch in a task of its own, which goes on when its caller goes away.
    async fn detached_batch<I, T, E, L>(
        &self,
        keys: Vec<(I, Key<T>)>,
        reuse: Reuse,
        load: L,
    ) -> Result<Vec<(I, Found<T>)>, E>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        let (this, span) = (self.clone(), spans::read(T::POLICY.pattern));
        let batch = tokio::spawn(async move { this.batch(keys, reuse, load).await }.instrument(span));
        batch.await.unwrap_or(Err(NotLoaded::Aborted.into())).map_err(Failure::into_error)
    }

    async fn batch<I, T, E, L>(
        &self,
        keys: Vec<(I, Key<T>)>,
        reuse: Reuse,
        load: L,
    ) -> Result<Vec<(I, Found<T>)>, Failure<E>>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable,
        E: LoadError,
        L: LoadMany<I, T, E>,
    {
        let deadline = self.deadline(self.inner.clock.now());
        for (_, key) in &keys {
            self.welcome(key).await?;
        }
        let era = self.inner.fence.era();
        let bypass = || keys.iter().map(|_| Err(Outcome::Bypass)).collect();
        let (found, filling) = match reuse {
            Reuse::Allowed => {
                let keys: Vec<_> = keys.iter().map(|(_, key)| key.clone()).collect();
                self.tier_answers(&keys, &era).await
            }
            Reuse::Refresh => (bypass(), Filling::Unleased),
            Reuse::NoStore => (bypass(), Filling::Nothing),
        };
        let asked = keys.iter().cloned().zip(found);
        let missing: Vec<I> = asked.clone().filter(|(_, found)| found.is_err()).map(|((id, _), _)| id).collect();
        let tenant = keys.first().and_then(|(_, key)| key.tenant_of().cloned());
        let mut loaded = if missing.is_empty() {
            HashMap::new()
        } else {
            load.load_many(self, tenant.as_ref(), missing, deadline).await?
        };
        let mut filled = Vec::new();
        let mut answers = Vec::new();
        for ((id, key), found) in asked {
            let found = match found {
                Ok(found) => found,
                Err(missed) => {
                    let held = self.held(loaded.remove(&id).ok_or(NotLoaded::Aborted)?, &era)?;
                    filled.push((key, held.clone()));
                    (held, missed)
                }
            };
            answers.push((id, found));
        }
        self.fill(&filled, &era, filling);
        Ok(answers)
    }

    /// Leaves values in the tiers that were read outside of `get_or_load`.
    ///
    /// # Errors
    /// [`NotLoaded`] when a value can't be encoded; then nothing was left.
    pub fn put_many<T: Cacheable>(&self, entries: Vec<(Key<T>, Loaded<T>)>) -> Result<(), NotLoaded> {
        let era = self.inner.fence.era();
        // When these were asked for is not known here, but it was since their statement.
        let now = self.inner.clock.now();
        let asked = |loaded: &Loaded<T>| now.saturating_sub(self.inner.fence.age(loaded.loaded_at, now));
        let hold = |(key, loaded)| {
            let asked = asked(&loaded);
            Ok((key, self.held(Asked { loaded, asked }, &era)?))
        };
        let held = entries.into_iter().map(hold).collect::<Result<Vec<_>, NotLoaded>>()?;
        self.fill(&held, &era, Filling::Unleased);
        Ok(())
    }

    async fn tier_answers<T: Cacheable>(
        &self,
        keys: &[Key<T>],
        era: &Era,
    ) -> (Vec<Result<Found<T>, Outcome>>, Filling) {
        let now = self.inner.fence.wait_for_trust(self.inner.clock.now()).await;
        let mut found = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let answer = self.l1_young(key, now).map(|held| (held, Outcome::L1Hit));
            if let Err(missed) = answer {
                missing.push((at, (key, missed)));
            }
            found.push(answer);
        }
        let (places, asked): (Vec<usize>, Vec<_>) = missing.into_iter().unzip();
        let (answers, filling) = self.l2_answers(&asked, era).await;
        for (at, answer) in places.into_iter().zip(answers) {
            found[at] = answer;
        }
        (found, filling)
    }
}
