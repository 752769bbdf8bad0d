//! All instances, for the live page: each says of itself how it is, in a table of the database they share, and reads what the others
//! say. For people to look at: nothing is decided by it, and without it everything goes on.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    cache::{BreakerState, Cache, CacheStats, ConnectionPool, MemoryState, PatternStats},
    readiness::{Phase, Readiness},
};

/// Pause between two exchanges.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest time of an exchange: shorter than what counts as a slow statement.
const LIMIT: Duration = Duration::from_millis(800);
/// An instance that was not heard of for so many seconds is forgotten.
const FORGOTTEN: f64 = 60.0;

/// How an instance is, by its own words.
#[derive(Debug, Serialize)]
struct InstanceState {
    name: String,
    region: String,
    version: &'static str,
    phase: Phase,
    /// Whether its tiers may be used.
    is_current: bool,
    /// Milliseconds since it polled the ledger.
    poll_age_ms: Option<u64>,
    /// Its breaker; `None` without an L2.
    l2_breaker: Option<BreakerState>,
    /// How full the fullest node of its L2 is; `None`: not known.
    l2_memory: Option<MemoryState>,
    stale_served: u64,
    /// Reads since its start, and how many of them a tier answered.
    reads: u64,
    hits: u64,
}

/// An instance, and when it was heard of.
#[derive(Clone, Debug, Serialize)]
pub struct KnownInstance {
    id: String,
    /// By its own words, which may be those of another version.
    #[serde(flatten)]
    state: Value,
    /// Milliseconds since it said so.
    heard_ms: u64,
    /// Whether it is the one that was asked.
    this: bool,
}

/// What the last exchange brought. Cheap to clone.
#[derive(Clone)]
pub struct Instances {
    cache: Cache,
    db: ConnectionPool,
    readiness: Readiness,
    id: String,
    name: String,
    region: String,
    others: Arc<Mutex<(Vec<KnownInstance>, Instant)>>,
}

impl Instances {
    /// This instance, alone until the first exchange.
    pub fn new(cache: Cache, db: ConnectionPool, readiness: Readiness, name: String, region: String) -> Self {
        let others = Arc::new(Mutex::new((Vec::new(), Instant::now())));
        Self { cache, db, readiness, id: Uuid::now_v7().to_string(), name, region, others }
    }

    /// Exchanges states again and again.
    pub async fn follow(self) {
        loop {
            match timeout(LIMIT, self.exchange()).await {
                Ok(Ok(others)) => *self.lock() = (others, Instant::now()),
                Ok(Err(error)) => tracing::debug!(%error, "no word of the other instances"),
                Err(_late) => tracing::debug!("no word of the other instances in time"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Leaves the table, so that nobody waits to hear of this instance again.
    pub async fn leave(&self) {
        let left = sqlx::query("delete from instances where id = $1").bind(&self.id).execute(&self.db);
        if let Err(error) = left.await {
            tracing::debug!(%error, "the others were not told of this end");
        }
    }

    /// All instances, this one first, the others in the order of their starts.
    pub fn all(&self) -> Vec<KnownInstance> {
        let (others, since) = self.lock().clone();
        let since = since.elapsed().as_millis() as u64;
        let others = others.into_iter().map(|other| KnownInstance { heard_ms: other.heard_ms + since, ..other });
        let own = KnownInstance { id: self.id.clone(), state: self.own(), heard_ms: 0, this: true };
        std::iter::once(own).chain(others).collect()
    }

    async fn exchange(&self) -> Result<Vec<KnownInstance>, sqlx::Error> {
        let rows: Vec<(String, Json<Value>, i64)> = sqlx::query_as(
            "with forgotten as (
                 delete from instances where seen_at not between clock_timestamp() - $3 * interval '1 second'
                                                             and clock_timestamp() + $3 * interval '1 second'
             ), own as (
                 insert into instances (id, state) values ($1, $2)
                 on conflict (id) do update set state = excluded.state, seen_at = clock_timestamp()
             )
             select id, state, (extract(epoch from clock_timestamp() - seen_at) * 1000)::bigint
             from instances
             where id <> $1 and jsonb_typeof(state) = 'object' and pg_column_size(state) < 4096
             order by id limit 100",
        )
        .bind(&self.id)
        .bind(Json(self.own()))
        .bind(FORGOTTEN)
        .fetch_all(&self.db)
        .await?;
        let known = |(id, Json(state), heard): (String, Json<Value>, i64)| {
            let heard_ms = u64::try_from(heard).unwrap_or_default();
            KnownInstance { id, state, heard_ms, this: false }
        };
        Ok(rows.into_iter().map(known).collect())
    }

    fn own(&self) -> Value {
        let CacheStats { is_current, poll_age_ms, stale_served, l2_breaker, patterns, .. } = self.cache.stats();
        let sum = |of: fn(&PatternStats) -> u64| patterns.values().map(of).sum();
        let state = InstanceState {
            name: self.name.clone(),
            region: self.region.clone(),
            version: env!("CARGO_PKG_VERSION"),
            phase: self.readiness.phase(),
            is_current,
            poll_age_ms,
            l2_breaker,
            l2_memory: self.cache.l2_memory(),
            stale_served,
            reads: sum(|pattern| pattern.reads),
            hits: sum(|pattern| pattern.hits),
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<KnownInstance>, Instant)> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
