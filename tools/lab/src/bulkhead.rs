//! The load on Postgres during a Redis outage, with few permits for loads and with more permits
//! than needed. This bench uses the cache as a library, because the service derives its permits
//! from its pool.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aside_cache::{
    Cache, CacheConfig, CacheMode, Cacheable, Concurrency, DbTime, Format, Key, LoadError, LoadFailure, Loaded,
    Outcome, Policy, RedisL2, Residency, Sensitivity,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::task::JoinSet;

use crate::{
    chart::{Chart, Form, Series, svg},
    environment::Environment,
    numbers::{quantile, short},
    report::{Picture, Section},
};

const SECONDS: u64 = 12;
/// When Redis is down.
const AWAY: (f64, f64) = (4.0, 8.0);
/// Reads a second, and the number of different values that they read.
const RATE: f64 = 1_200.0;
const THINGS: i64 = 4_000;
/// The time of a load in Postgres, in seconds. With `ROOM` concurrent loads, 320 loads a second are
/// possible.
const LOAD: f64 = 0.025;
const ROOM: usize = 8;
const CONNECTIONS: u32 = 60;
const STEP: f64 = 0.25;

const WITH: Policy = Policy {
    name: "walled",
    l1_ttl: Duration::from_secs(10),
    l2_ttl: Duration::from_secs(600),
    negative_ttl: Duration::from_secs(5),
    max_age: Duration::from_secs(600),
    stale_if_error: Duration::ZERO,
    jitter_percent: 10,
    format: Format::Json,
    schema_version: "1",
    compress_above: 1_024,
    sensitivity: Sensitivity::Public,
    residency: Residency::Shared,
    volatile: &[],
};

#[derive(Serialize, Deserialize)]
struct Walled(i64);

impl Cacheable for Walled {
    const POLICY: Policy = WITH;
}

#[derive(Serialize, Deserialize)]
struct Open(i64);

impl Cacheable for Open {
    const POLICY: Policy = Policy { name: "open", ..WITH };
}

#[derive(Clone)]
struct Failed;

impl From<LoadFailure> for Failed {
    fn from(_: LoadFailure) -> Self {
        Self
    }
}

impl LoadError for Failed {
    fn is_unavailable(&self) -> bool {
        false
    }
}

/// The measurements of one variant.
#[derive(Default)]
struct Seen {
    /// The highest number of concurrent loads.
    most_loads: usize,
    /// Moments, loads a second, connections in use.
    gauges: Vec<(f64, f64, f64)>,
    /// For each read: when it was due, in seconds, how long it took, in milliseconds, and whether
    /// it was answered.
    reads: Vec<(f64, f64, bool)>,
}

impl Seen {
    fn away(&self) -> (Vec<f64>, usize) {
        let away: Vec<_> = self.reads.iter().filter(|(at, ..)| (AWAY.0..AWAY.1).contains(at)).collect();
        let answered: Vec<f64> = away.iter().filter(|(.., answered)| *answered).map(|(_, took, _)| *took).collect();
        let refused = away.len() - answered.len();
        (answered, refused)
    }

    fn most_connections(&self) -> f64 {
        self.gauges.iter().map(|(.., connections)| *connections).fold(0.0, f64::max)
    }

    fn row(&self, name: &str) -> Vec<String> {
        let (mut answered, refused) = self.away();
        let away = self.gauges.iter().filter(|(at, ..)| (AWAY.0..AWAY.1).contains(at));
        let most = away.map(|(_, loads, _)| *loads).fold(0.0, f64::max);
        vec![
            name.to_owned(),
            short(most),
            self.most_loads.to_string(),
            short(self.most_connections()),
            short(answered.len() as f64 / (AWAY.1 - AWAY.0)),
            short(refused as f64 / (AWAY.1 - AWAY.0)),
            short(quantile(&mut answered, 0.5)),
            short(quantile(&mut answered, 0.99)),
        ]
    }
}

pub async fn measure(environment: &mut Environment) -> Section {
    eprintln!("  with");
    let with = run::<Walled>(environment, Walled, ROOM).await;
    eprintln!("  without");
    let without = run::<Open>(environment, Open, usize::MAX / 2).await;
    let mut section = Section {
        title: "What reaches Postgres while Redis is away",
        method: format!(
            "{RATE} reads a second by the clock of {THINGS} things that Redis holds and L1 does not; a load takes {} ms. Redis is killed \
             after {} s and is back, empty, after {} s. With a bulkhead of {ROOM} loads at a time, and without; the pool has {CONNECTIONS} \
             connections. Figures of the time without Redis; times in ms. The cache's own \
             meter takes a connection now and then.",
            LOAD * 1000.0,
            AWAY.0,
            AWAY.1
        ),
        columns: [
            "",
            "most loads, 1/s",
            "most at a time",
            "most connections",
            "answered, 1/s",
            "refused, 1/s",
            "median",
            "99 %",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: vec![with.row("with bulkhead"), without.row("without")],
        picture: Some(Picture { file: "bulkhead.svg", svg: picture(&with, &without) }),
        checks: Vec::new(),
    };
    section.check(format!("with the bulkhead no more than {ROOM} loads are under way"), with.most_loads <= ROOM);
    let answered = with.away().0.len() as f64 / (AWAY.1 - AWAY.0);
    let before = with.gauges.iter().chain(&without.gauges).filter(|(at, ..)| *at < AWAY.0);
    section.check("before that Redis answers everything", before.into_iter().all(|(_, loads, _)| *loads == 0.0));
    section.check("its room is used: 80 % or more of what fits is answered", answered >= 0.8 * ROOM as f64 / LOAD);
    section
}

async fn run<T: Cacheable>(environment: &mut Environment, make: fn(i64) -> T, loads: usize) -> Seen {
    let options = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(Duration::from_secs(30));
    let db = options.connect(&environment.postgres.url(environment.postgres.port)).await.expect("a pool");
    let redis =
        RedisL2::standalone(&format!("redis://127.0.0.1:{}/", environment.redis.port)).expect("the URL of Redis");
    let config = CacheConfig {
        namespace: "chaos-bulkhead".into(),
        l1_bytes: 0,
        l2: Some(Arc::new(redis)),
        policies: vec![T::POLICY],
        concurrency: Some(Concurrency { loads, writes: 1, total: loads + 1 }),
        ..CacheConfig::default()
    };
    let cache = Cache::start(config, db.clone());
    while !cache.is_current() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let loads = Arc::new(AtomicU64::new(0));
    let (in_flight, most_loads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    fill(&cache, &db, make).await;

    let begun = Instant::now();
    let watching = tokio::spawn(watch(begun, db.clone(), Arc::clone(&loads)));
    let mut flying = JoinSet::new();
    let clients = async {
        for number in 0..(RATE * SECONDS as f64) as u64 {
            let due = begun + Duration::from_secs_f64(number as f64 / RATE);
            tokio::time::sleep_until(due.into()).await;
            let (cache, db, loads) = (cache.clone(), db.clone(), Arc::clone(&loads));
            let (in_flight, most_loads) = (Arc::clone(&in_flight), Arc::clone(&most_loads));
            let id = fastrand::i64(0..THINGS);
            let key = Key::<T>::new(id);
            let loading = move || async move {
                most_loads.fetch_max(in_flight.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let loaded = load(&db, id, LOAD, make).await;
                in_flight.fetch_sub(1, Ordering::Relaxed);
                loads.fetch_add(1, Ordering::Relaxed);
                loaded
            };
            flying.spawn(async move {
                let read = cache.get_or_load(&key, CacheMode::Default, loading).await;
                ((due - begun).as_secs_f64(), due.elapsed().as_secs_f64() * 1000.0, read.is_ok())
            });
        }
    };
    let faults = async {
        tokio::time::sleep_until((begun + Duration::from_secs_f64(AWAY.0)).into()).await;
        environment.redis.kill().await;
        tokio::time::sleep_until((begun + Duration::from_secs_f64(AWAY.1)).into()).await;
        environment.redis.launch().await;
    };
    tokio::join!(clients, faults);
    let gauges = watching.await.expect("the gauges are read");
    let reads = flying.join_all().await;
    cache.shutdown().await;
    db.close().await;
    Seen { most_loads: most_loads.load(Ordering::Relaxed), gauges, reads }
}

/// Stores all values in Redis.
async fn fill<T: Cacheable>(cache: &Cache, db: &PgPool, make: fn(i64) -> T) {
    for id in 0..THINGS {
        let entry = load(db, id, 0.0, make).await.unwrap_or_else(|Failed| panic!("a load failed"));
        cache.put_many(vec![(Key::<T>::new(id), entry)]).expect("it can be encoded");
    }
    for id in 0..THINGS {
        let key = Key::<T>::new(id);
        let found = || async {
            cache.get(key.clone()).only_if_cached().await.filter(|read| read.outcome == Outcome::L2Hit).map(drop)
        };
        aside_testkit::eventually("Redis is filled", found).await;
    }
}

async fn load<T>(db: &PgPool, id: i64, seconds: f64, make: fn(i64) -> T) -> Result<Loaded<T>, Failed> {
    let loaded_at: i64 = sqlx::query_scalar("select (extract(epoch from now()) * 1000000)::bigint from pg_sleep($1)")
        .bind(seconds)
        .fetch_one(db)
        .await
        .map_err(|_| Failed)?;
    Ok(Loaded { value: Some(make(id)), tag_versions: Vec::new(), loaded_at: DbTime(loaded_at), valid_until: None })
}

async fn watch(begun: Instant, db: PgPool, loads: Arc<AtomicU64>) -> Vec<(f64, f64, f64)> {
    let (mut gauges, mut before) = (Vec::new(), 0);
    for step in 1..=(SECONDS as f64 / STEP) as u32 {
        tokio::time::sleep_until((begun + Duration::from_secs_f64(f64::from(step) * STEP)).into()).await;
        let now = loads.load(Ordering::Relaxed);
        let in_use = f64::from(db.size()) - db.num_idle() as f64;
        gauges.push((begun.elapsed().as_secs_f64(), (now - before) as f64 / STEP, in_use.max(0.0)));
        before = now;
    }
    gauges
}

fn picture(with: &Seen, without: &Seen) -> String {
    let series = |name: &str, colour, seen: &Seen, pick: fn(&(f64, f64, f64)) -> f64| Series {
        name: name.to_owned(),
        colour,
        points: seen.gauges.iter().map(|gauge| (gauge.0, pick(gauge))).collect(),
    };
    let pair = |pick| vec![series("with", "#2e7d4f", with, pick), series("without", "#b3261e", without, pick)];
    let charts = [
        Chart { title: "Loads from Postgres a second", form: Form::Lines, series: pair(|gauge| gauge.1) },
        Chart { title: "Connections in use", form: Form::Lines, series: pair(|gauge| gauge.2) },
    ];
    svg(&charts, &[(AWAY.0, AWAY.1, "Redis killed")], SECONDS as f64)
}
