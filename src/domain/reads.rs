//! Where loads read: on a replica of Postgres if there is one, as long as what it says is proved to be no older than what this
//! instance may serve, and else on the primary. So a replica takes load off the primary and changes no promise, however far it
//! lags, whether it hangs, or is gone. Writes, the ledger and everything that asked for a fresh answer never come here.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use sqlx::PgPool;

use crate::{
    cache::{Cache, Cacheable, DbTime, Key, Loaded, Reuse},
    domain::error::DomainError,
};

/// Longest time for a load on the replica, before the primary is asked.
const LIMIT: Duration = Duration::from_millis(250);
/// After a failure the replica is left alone for so long.
const REST: Duration = Duration::from_secs(1);

/// The primary, and maybe a replica of it. Cheap to clone.
#[derive(Clone)]
pub struct Databases {
    pub primary: PgPool,
    replica: Option<PgPool>,
    health: Arc<Health>,
}

impl From<PgPool> for Databases {
    fn from(primary: PgPool) -> Self {
        Self::new(primary, None)
    }
}

impl Databases {
    pub fn new(primary: PgPool, replica: Option<PgPool>) -> Self {
        Self { primary, replica, health: Arc::default() }
    }

    /// A store over each.
    pub fn reads<S>(&self, cache: &Cache, store: impl Fn(PgPool) -> S) -> Reads<S> {
        let replica = self.replica.clone().map(|db| Replica { store: store(db), health: Arc::clone(&self.health) });
        Reads { cache: cache.clone(), primary: store(self.primary.clone()), replica }
    }

    /// Shows in `registry` what became of loads on the replica.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register("replica_loads", "Loads on the replica of Postgres", self.health.loads.clone());
    }
}

/// What became of a load on the replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// What is known of the replica, whatever was asked of it.
struct Health {
    begun: Instant,
    /// Until when it is left alone, in milliseconds since `begun`; 0: it is well.
    rests_until: AtomicU64,
    /// The latest moment that an answer of it named: everything before it has reached the replica by now.
    known: AtomicI64,
    loads: Family<Outcome, Counter>,
}

impl Default for Health {
    fn default() -> Self {
        let loads = Family::<Outcome, Counter>::default();
        // Shown from the start, as zeros.
        for result in ["used", "behind", "failed"] {
            drop(loads.get_or_create(&Outcome { result }));
        }
        Self { begun: Instant::now(), rests_until: AtomicU64::new(0), known: AtomicI64::new(i64::MIN), loads }
    }
}

impl Health {
    fn count(&self, result: &'static str) {
        self.loads.get_or_create(&Outcome { result }).inc();
    }

    /// Whether an answer is used; counted.
    fn judged(&self, is_current: bool) -> bool {
        self.count(if is_current { "used" } else { "behind" });
        is_current
    }
}

/// A store over the primary, and maybe the same over a replica. Cheap to clone.
#[derive(Clone)]
pub struct Reads<S> {
    cache: Cache,
    pub primary: S,
    replica: Option<Replica<S>>,
}

#[derive(Clone)]
struct Replica<S> {
    store: S,
    health: Arc<Health>,
}

impl<S: Clone> Reads<S> {
    /// Loads one value, for a read with this directive: who asks for a fresh answer gets it from the primary.
    pub fn load<T, L, F>(
        &self,
        key: &Key<T>,
        reuse: Reuse,
        load: L,
    ) -> impl Future<Output = F::Output> + use<S, T, L, F>
    where
        T: Cacheable,
        L: Fn(S) -> F,
        F: Future<Output = Result<Loaded<T>, DomainError>>,
    {
        let (this, key) = (self.clone(), key.clone());
        async move {
            if let Some(replica) = this.replica_for(reuse)
                && let Some((mut loaded, known)) = replica.ask(&load, |loaded| loaded.loaded_at).await
            {
                loaded.loaded_at = loaded.loaded_at.min(known);
                if replica.health.judged(this.cache.vouches_for(&key, &loaded)) {
                    return Ok(loaded);
                }
            }
            load(this.primary).await
        }
    }

    /// The replica, if this read may be answered by one, and anything of it could be vouched for.
    fn replica_for(&self, reuse: Reuse) -> Option<&Replica<S>> {
        self.replica.as_ref().filter(|_| reuse == Reuse::Allowed && self.cache.trusted())
    }

    /// Loads several values; those that the replica is behind with, from the primary.
    pub async fn load_many<I, T, F>(
        self,
        ids: Vec<I>,
        key: impl Fn(I) -> Key<T>,
        reuse: Reuse,
        load: impl Fn(S, Vec<I>) -> F,
    ) -> F::Output
    where
        I: Copy + Eq + Hash,
        T: Cacheable,
        F: Future<Output = Result<HashMap<I, Loaded<T>>, DomainError>>,
    {
        let mut found = HashMap::new();
        let latest = |found: &HashMap<I, Loaded<T>>| {
            found.values().map(|loaded| loaded.loaded_at).max().unwrap_or(DbTime(i64::MIN))
        };
        if let Some(replica) = self.replica_for(reuse)
            && let Some((said, known)) = replica.ask(|store| load(store, ids.clone()), latest).await
        {
            found = said;
            found.retain(|id, loaded| {
                loaded.loaded_at = loaded.loaded_at.min(known);
                replica.health.judged(self.cache.vouches_for(&key(*id), loaded))
            });
        }
        let left: Vec<I> = ids.into_iter().filter(|id| !found.contains_key(id)).collect();
        if !left.is_empty() {
            found.extend(load(self.primary, left).await?);
        }
        Ok(found)
    }
}

impl<S: Clone> Replica<S> {
    /// What the replica says, if it says something soon; and a moment before which all that was committed had reached it when it was
    /// asked. What an answer itself says of that may be later than what it shows: the replica goes on while it reads.
    async fn ask<R, F>(&self, load: impl Fn(S) -> F, moment: impl Fn(&R) -> DbTime) -> Option<(R, DbTime)>
    where
        F: Future<Output = Result<R, DomainError>>,
    {
        let Health { begun, rests_until: rests, known, .. } = &*self.health;
        let now = || begun.elapsed().as_millis() as u64;
        let rests_until = rests.load(Ordering::Relaxed);
        let after_a_rest = rests_until > 0;
        // After a failure one asks, and the others wait for nobody.
        let next = now() + REST.as_millis() as u64;
        if now() < rests_until
            || (after_a_rest
                && rests.compare_exchange(rests_until, next, Ordering::Relaxed, Ordering::Relaxed).is_err())
        {
            return None;
        }
        let before = DbTime(known.load(Ordering::Acquire));
        match tokio::time::timeout(LIMIT, load(self.store.clone())).await {
            Ok(Ok(found)) => {
                known.fetch_max(moment(&found).0, Ordering::AcqRel);
                if after_a_rest {
                    rests.store(0, Ordering::Relaxed);
                }
                Some((found, before))
            }
            failed => {
                let error = failed.err().map_or("it failed", |_| "it took too long");
                self.health.count("failed");
                tracing::debug!(error, "a load on the replica is repeated on the primary");
                rests.store(next, Ordering::Relaxed);
                None
            }
        }
    }
}
