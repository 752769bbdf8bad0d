//! The cost of a poll of the ledger. It depends on the number of tags, on concurrent writes, and on
//! open transactions. The time comes from the instances' own metric. So it is the time of the real
//! statement, from sending it to having its answer.

use std::time::Duration;

use aside_cache::{Cache, CacheConfig, Tag};
use aside_testkit::metrics::Metrics;
use prometheus_client::{encoding::text::encode, registry::Registry};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::task::JoinSet;

use crate::{
    environment::{Database, Environment, until_current},
    figure::{Figure, interleaved},
    numbers::{Spread, grouped, short},
};

/// Instances that poll, each at the service's interval.
const INSTANCES: usize = 5;
const WRITES_PER_SECOND: u32 = 500;
const WRITERS: u32 = 10;
/// Changes that are committed while a transaction stays open.
const CHANGES: u32 = 100_000;

/// A ledger with this number of tags.
struct Ledger {
    names: u64,
    database: Database,
}

/// The load beside the polls.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    Writes,
}

/// The mean time of a poll in milliseconds, the number of polls, and the concurrent writes a
/// second.
struct Window {
    mean: f64,
    polls: f64,
    writes: f64,
}

pub async fn measure(environment: &Environment) -> Figure {
    let mut ledgers = Vec::new();
    for names in environment.pick(vec![1_000, 10_000, 100_000, 1_000_000], vec![1_000, 50_000]) {
        ledgers.push(Ledger::fill(environment, names).await);
    }
    let variants: Vec<(&Ledger, Beside)> =
        ledgers.iter().flat_map(|ledger| [(ledger, Beside::Nothing), (ledger, Beside::Writes)]).collect();
    let (rounds, time) = (environment.pick(5, 2), environment.time(1500, 400));
    let windows = interleaved(rounds, &variants, async |(ledger, beside)| ledger.window(*beside, time).await).await;

    let largest = &ledgers[ledgers.len() - 1];
    let (held_rounds, changes) = (environment.pick(3, 1), environment.pick(CHANGES, CHANGES / 20));
    eprintln!("  with a transaction open and {changes} changes since");
    let (mut before, mut held) = (Vec::new(), Vec::new());
    for _ in 0..held_rounds {
        before.push(largest.window(Beside::Nothing, time).await);
        held.push(largest.held(changes, time).await);
    }

    let means = |windows: &[Window]| windows.iter().map(|window| window.mean).collect::<Vec<_>>();
    let row = |tag_version: String, windows: &[Window], ratio: Spread| {
        let polls: f64 = windows.iter().map(|window| window.polls).sum();
        let writes = Spread::of(&windows.iter().map(|window| window.writes).collect::<Vec<_>>());
        vec![
            tag_version,
            ratio.cell(),
            Spread::of(&means(windows)).cell(),
            if writes.median > 0.0 { short(writes.median) } else { String::new() },
            grouped(polls as i64),
        ]
    };
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    let mut add = |tag_version: String, windows: &[Window], base: &[Window]| {
        let ratio = Spread::of_ratios(&means(windows), &means(base));
        rows.push(row(tag_version.clone(), windows, ratio));
        bars.push((tag_version, ratio));
    };
    for ((ledger, beside), measured) in variants.iter().zip(&windows) {
        let beside = if *beside == Beside::Writes { "with writes" } else { "idle" };
        add(format!("{} tags, {beside}", grouped(ledger.names as i64)), measured, &windows[0]);
    }
    let names = grouped(largest.names as i64);
    add(format!("{names} names, idle again"), &before, &before);
    add(format!("{names} names, a transaction open"), &held, &before);
    for ledger in ledgers {
        ledger.database.drop().await;
    }
    Figure {
        title: "Polls of the ledger",
        method: format!(
            "{INSTANCES} instances poll a ledger of this many tags, each every 50 ms as the service does. *With \
             writes*: {WRITES_PER_SECOND} writes a second to random tags of the ledger are requested. {rounds} \
             rounds of {:.1} s for each. The time is the mean of `cache_poll_duration_seconds` in a round. Ratios \
             are to the smallest ledger, idle. *A transaction open*: a transaction took its id at the beginning and \
             stays open during all polls. Since then {} other transactions have each committed a change of the same \
             ledger (at random, of {} tags). {held_rounds} rounds, ratios to polls without it just before.",
            time.as_secs_f64(),
            grouped(i64::from(changes)),
            names,
        ),
        columns: &["a ledger of", "time of a poll", "ms", "writes/s beside", "polls"],
        rows,
        scale: "time of a poll, as a multiple of the first (in the last row: of the one before it)",
        bars,
    }
}

impl Ledger {
    async fn fill(environment: &Environment, names: u64) -> Self {
        eprintln!("  a ledger of {names} names");
        let database = environment.database(&format!("looks_{names}")).await;
        let sql = "insert into cache_ledger (tag, version)
                   select 'bench:' || n, nextval('cache_version') from generate_series(1, $1) as n";
        sqlx::query(sql).bind(names as i64).execute(&database.patient).await.expect("the ledger is filled");
        database.quiesce().await;
        Self { names, database }
    }

    /// Measures polls for a while.
    async fn window(&self, beside: Beside, time: Duration) -> Window {
        let instances = Instances::start(&self.database).await;
        let window = match beside {
            Beside::Nothing => instances.polls(time).await,
            Beside::Writes => self.beside_writes(&instances, time).await,
        };
        instances.stop().await;
        window
    }

    async fn beside_writes(&self, instances: &Instances, time: Duration) -> Window {
        let (mut writers, names) = (JoinSet::new(), self.names);
        for _ in 0..WRITERS {
            let cache = instances.caches[0].0.clone();
            writers.spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_secs(1) * WRITERS / WRITES_PER_SECOND);
                loop {
                    pace.tick().await;
                    let name = Tag::new("bench", fastrand::u64(1..=names));
                    cache.invalidate([name]).await.expect("a write");
                }
            });
        }
        let window = instances.polls(time).await;
        writers.shutdown().await;
        window
    }

    /// Measures polls while a transaction is open that took its version before `changes` others
    /// committed.
    async fn held(&self, changes: u32, time: Duration) -> Window {
        let mut open = self.database.patient.begin().await.expect("a transaction");
        sqlx::query("select pg_current_xact_id()").execute(&mut *open).await.expect("it takes its number");
        self.change(changes).await;
        let window = self.window(Beside::Nothing, time).await;
        open.rollback().await.expect("it ends");
        window
    }

    /// Raises tags of the ledger, each in its own transaction. These transactions are not measured,
    /// so they do not wait for the disk.
    async fn change(&self, changes: u32) {
        let mut connection: PgConnection =
            self.database.patient.connect_options().connect().await.expect("a connection");
        let set = "set synchronous_commit = off".to_owned();
        let change = format!(
            "do $$ declare changed text; begin for change in 1..{changes} loop
                 changed := 'bench:' || (1 + floor(random() * {}))::bigint;
                 update cache_ledger set version = nextval('cache_version'), xid = pg_current_xact_id() where tag = changed;
                 commit;
             end loop; end $$",
            self.names
        );
        for statement in [set, change] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("the changes");
        }
    }
}

/// Instances that only poll.
struct Instances {
    caches: Vec<(Cache, Registry)>,
}

impl Instances {
    async fn start(database: &Database) -> Self {
        let mut caches = Vec::new();
        for _ in 0..INSTANCES {
            let config = CacheConfig { l1_bytes: 0, ..CacheConfig::default() };
            let cache = Cache::start(config, database.pool.clone());
            until_current(&cache).await;
            let mut registry = Registry::default();
            cache.register_metrics(&mut registry);
            caches.push((cache, registry));
        }
        Self { caches }
    }

    async fn polls(&self, time: Duration) -> Window {
        // The work that the start left is done by then.
        tokio::time::sleep(time / 5).await;
        let [sum, count, writes] = self.counters();
        tokio::time::sleep(time).await;
        let [sum_then, count_then, writes_then] = self.counters();
        let polls = count_then - count;
        Window { mean: (sum_then - sum) * 1000.0 / polls, polls, writes: (writes_then - writes) / time.as_secs_f64() }
    }

    /// The seconds of polls, the number of polls, and the number of writes.
    fn counters(&self) -> [f64; 3] {
        let names =
            ["cache_poll_duration_seconds_sum", "cache_poll_duration_seconds_count", "cache_invalidations_total"];
        let texts = self.caches.iter().map(|(_, registry)| {
            let mut text = String::new();
            encode(&mut text, registry).expect("metrics are text");
            Metrics::parse(&text)
        });
        let read: Vec<Metrics> = texts.collect();
        names.map(|name| read.iter().map(|metrics| metrics.sum(name, &[])).sum())
    }

    async fn stop(self) {
        for (cache, _) in self.caches {
            cache.shutdown().await;
        }
    }
}
