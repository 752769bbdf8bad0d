//! All instances, for the live page. Each instance writes its state into a table of the shared
//! database and reads the states of the others. The states are only displayed. No decision depends
//! on them, and the service works without them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aside_cache::{BreakerState, Cache, CacheStats, ConnectionPool, MemoryState, PatternStats, Tag};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use crate::readiness::{Phase, Readiness};

/// The interval between two exchanges.
const PAUSE: Duration = Duration::from_secs(2);
/// The time limit of an exchange. It is shorter than the threshold of slow statements.
const LIMIT: Duration = Duration::from_millis(800);
/// How long a change is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// The number of seconds without an update after which an instance is removed.
const FORGOTTEN: f64 = 60.0;

/// The state that an instance reports about itself.
#[derive(Debug, Serialize)]
struct InstanceState {
    name: String,
    region: String,
    version: &'static str,
    phase: Phase,
    /// Whether it may use its tiers.
    is_current: bool,
    /// Milliseconds since its last poll of the ledger.
    poll_age_ms: Option<u64>,
    /// The state of its circuit breaker; `None` without an L2.
    l2_breaker: Option<BreakerState>,
    /// The memory state of the fullest node of its L2; `None` if it is unknown.
    l2_memory: Option<MemoryState>,
    stale_served: u64,
    /// The reads since its start, and how many of them a tier answered.
    reads: u64,
    hits: u64,
    /// A change that this instance asks all instances to time.
    watching: Option<Watched>,
    /// The last change that this instance timed.
    timed: Option<Timed>,
}

/// A change of a public tag that operators watch as it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The tag that changed.
    pub tag: String,
    /// Its version since the change.
    pub version: i64,
}

/// A watched change that has arrived at an instance.
#[derive(Clone, Debug, Serialize)]
struct Timed {
    #[serde(flatten)]
    change: Watched,
    /// Milliseconds from the commit to the floors of the instance, at most. An instance raises its
    /// own floors with its commit, before it answers: 0.
    after_ms: u64,
}

/// The change that is being watched.
#[derive(Debug, Default)]
struct Watching {
    /// The change of this instance, and when it was committed.
    own: Option<(Watched, Instant)>,
    timed: Option<Timed>,
}

/// An instance, and the time of its last update.
#[derive(Clone, Debug, Serialize)]
pub struct KnownInstance {
    id: String,
    /// Its own report, possibly from another version of the program.
    #[serde(flatten)]
    state: Value,
    /// Milliseconds since its last update.
    heard_ms: u64,
    /// Whether it is the instance that answers.
    this: bool,
}

/// The result of the last exchange. It is cheap to clone.
#[derive(Clone)]
pub struct Instances {
    cache: Cache,
    db: ConnectionPool,
    readiness: Readiness,
    id: String,
    name: String,
    region: String,
    others: Arc<Mutex<(Vec<KnownInstance>, Instant)>>,
    watching: Arc<Mutex<Watching>>,
    /// Wakes the exchange, because there is something to tell.
    news: Arc<Notify>,
}

impl Instances {
    /// Only this instance is known until the first exchange.
    pub fn new(cache: Cache, db: ConnectionPool, readiness: Readiness, name: String, region: String) -> Self {
        let others = Arc::new(Mutex::new((Vec::new(), Instant::now())));
        let id = Uuid::now_v7().to_string();
        Self { cache, db, readiness, id, name, region, others, watching: Arc::default(), news: Arc::default() }
    }

    /// Exchanges states at regular intervals.
    pub async fn follow(self) {
        loop {
            match timeout(LIMIT, self.exchange()).await {
                Ok(Ok(others)) => {
                    self.time_changes_of(&others);
                    *self.lock() = (others, Instant::now());
                }
                Ok(Err(error)) => tracing::debug!(%error, "no word of the other instances"),
                Err(_late) => tracing::debug!("no word of the other instances in time"),
            }
            let _ = timeout(PAUSE, self.news.notified()).await;
        }
    }

    /// Asks all instances, this one included, when this change arrived. They answer with their next
    /// exchanges.
    pub fn watch(&self, change: Watched) {
        let timed = Some(Timed { change: change.clone(), after_ms: 0 });
        *self.watching() = Watching { own: Some((change, Instant::now())), timed };
        self.news.notify_one();
    }

    /// Looks up the changes that other instances watch, and tells of those that have arrived.
    fn time_changes_of(&self, others: &[KnownInstance]) {
        let watched = others.iter().filter_map(|other| Watched::deserialize(&other.state["watching"]).ok());
        for change in watched {
            let known = self.watching().timed.as_ref().is_some_and(|timed| timed.change == change);
            let arrived = self.cache.arrival_of(&Tag::from_ledger(&change.tag), change.version);
            if let (false, Some(delay)) = (known, arrived) {
                // Rounded up, because it is an upper bound.
                let after_ms = delay.as_micros().div_ceil(1_000) as u64;
                self.watching().timed = Some(Timed { change, after_ms });
                self.news.notify_one();
            }
        }
    }

    /// Removes this instance from the table, so that the other instances do not display it.
    pub async fn leave(&self) {
        let left = sqlx::query("delete from instances where id = $1").bind(&self.id).execute(&self.db);
        if let Err(error) = left.await {
            tracing::debug!(%error, "the others were not told of this end");
        }
    }

    /// All instances: this one first, the others in the order of their starts.
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
        let (watching, timed) = {
            let mut watching = self.watching();
            let over = |(_, since): &mut (Watched, Instant)| since.elapsed() > WATCHED;
            if watching.own.as_mut().is_some_and(over) {
                watching.own = None;
            }
            (watching.own.as_ref().map(|(change, _)| change.clone()), watching.timed.clone())
        };
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
            watching,
            timed,
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn watching(&self) -> MutexGuard<'_, Watching> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<KnownInstance>, Instant)> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
