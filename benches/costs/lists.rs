//! The cost of invalidating a list. It does not depend on the number of cached keys.

use std::time::{Duration, Instant};

use aside_cache::{
    Cache, CacheConfig, Cacheable, DbTime, Format, Key, Loaded, Policy, Residency, Sensitivity, Tag, TagVersion,
};
use aside_testkit::metrics::Metrics;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::{Deserialize, Serialize};

use crate::{
    environment::{Database, Environment, until_current},
    figure::{Figure, interleaved},
    numbers::{Spread, grouped, quantile},
};

/// Commits of one variant in one round.
const COMMITS: usize = 30;
/// Keys that are stored at once.
const STEP: u64 = 1_000;

/// A page of a list.
#[derive(Serialize, Deserialize)]
struct Page(Vec<u64>);

impl Cacheable for Page {
    const POLICY: Policy = Policy {
        name: "bench-list",
        l1_ttl: Duration::from_secs(60),
        l2_ttl: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(30),
        max_age: Duration::from_secs(3600),
        stale_if_error: Duration::ZERO,
        jitter_percent: 0,
        format: Format::Json,
        schema_version: "1",
        compress_above: usize::MAX,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
        volatile: &[],
    };
}

/// An instance with this number of pages of one list, in one tier.
struct List {
    tier: &'static str,
    keys: u64,
    cache: Cache,
}

pub async fn measure(environment: &Environment) -> Figure {
    let database = environment.database("lists").await;
    let mut lists = Vec::new();
    // Entries leave L1 after a minute at most, so L1 is filled last.
    for keys in environment.pick(vec![1_000, 10_000, 100_000], vec![1_000, 5_000]) {
        lists.push(List::in_redis(environment, &database, keys).await);
    }
    for keys in environment.pick(vec![1_000, 10_000, 100_000, 1_000_000], vec![1_000, 50_000]) {
        lists.push(List::in_l1(&database, keys).await);
    }
    lists.rotate_left(environment.pick(3, 2));
    let rounds = environment.pick(7, 2);
    let results = interleaved(rounds, &lists, async |list| list.invalidate().await).await;
    for list in &lists {
        list.check().await;
        list.cache.shutdown().await;
    }
    let ratios: Vec<Spread> = results.iter().map(|result| Spread::of_ratios(result, &results[0])).collect();
    let tag_version = |list: &List| format!("{} keys in {}", grouped(list.keys as i64), list.tier);
    let row = |at: usize| vec![tag_version(&lists[at]), ratios[at].cell(), Spread::of(&results[at]).cell()];
    let figure = Figure {
        title: "Invalidating a list",
        method: format!(
            "The time of `Write::commit` for a write that invalidates the tag of a list, with this many keys cached \
             under the tag: the median of {COMMITS} commits in a round, {rounds} rounds. After the last commit every \
             list still has all its entries, and none is served."
        ),
        columns: &["a list of", "time of the commit", "ms"],
        rows: (0..lists.len()).map(row).collect(),
        scale: "time of the commit, as a multiple of the first",
        bars: lists.iter().map(tag_version).zip(ratios.iter().copied()).collect(),
    };
    drop(lists);
    database.drop().await;
    figure
}

impl List {
    async fn in_l1(database: &Database, keys: u64) -> Self {
        let config = CacheConfig { l1_bytes: 4 << 30, ..CacheConfig::default() };
        let list = Self::fill("L1", keys, config, database).await;
        assert_eq!(list.cache.stats().l1.entries, keys, "L1 holds the list");
        list
    }

    async fn in_redis(environment: &Environment, database: &Database, keys: u64) -> Self {
        let namespace = format!("costs_list_{keys}");
        let patient = Duration::from_secs(5);
        let l2 = Some(environment.l2());
        let config = CacheConfig { namespace, l1_bytes: 0, l2, l2_deadline: patient, ..CacheConfig::default() };
        Self::fill("Redis", keys, config, database).await
    }

    async fn fill(tier: &'static str, keys: u64, config: CacheConfig, database: &Database) -> Self {
        eprintln!("  {keys} keys in {tier}");
        let cache = Cache::start(config, database.pool.clone());
        until_current(&cache).await;
        let list = Self { tier, keys, cache };
        let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let now: i64 = sqlx::query_scalar(now).fetch_one(&database.pool).await.expect("the database's time");
        let page = |n| {
            let tag_versions = vec![TagVersion { tag: list.tag(), version: 0 }];
            (
                list.key(n),
                Loaded { value: Some(Page(vec![n])), tag_versions, loaded_at: DbTime(now), valid_until: None },
            )
        };
        let mut registry = Registry::default();
        list.cache.register_metrics(&mut registry);
        for from in (0..keys).step_by(STEP as usize) {
            list.cache.put_many((from..from + STEP).map(page).collect()).expect("pages are left in the tier");
            // Redis is filled after this call returns. Reading the pages would take the leases that
            // the fills need.
            while tier == "Redis" && kept(&registry) < from + STEP {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(list.cache.get(list.key(keys - 1)).only_if_cached().await.is_some(), "{tier} serves the list");
        list
    }

    fn key(&self, n: u64) -> Key<Page> {
        Key::new((self.tier, self.keys, n))
    }

    fn tag(&self) -> Tag {
        Tag::new("bench-list", (self.tier, self.keys))
    }

    /// The median time of a commit in milliseconds.
    async fn invalidate(&self) -> f64 {
        let mut took = Vec::new();
        for _ in 0..COMMITS {
            let mut write = self.cache.begin().await.expect("a write");
            write.invalidate(self.tag());
            let begun = Instant::now();
            write.commit().await.expect("a commit");
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        quantile(&mut took, 0.5)
    }

    /// Checks that the entries were stored all the time, and that they are not served after the
    /// invalidation.
    async fn check(&self) {
        if self.tier == "L1" {
            assert_eq!(self.cache.stats().l1.entries, self.keys, "L1 still holds the list");
        }
        for n in [0, self.keys / 2, self.keys - 1] {
            assert!(self.cache.get(self.key(n)).only_if_cached().await.is_none(), "an invalidated page is served");
        }
    }
}

/// The number of values that Redis has stored.
fn kept(registry: &Registry) -> u64 {
    let mut text = String::new();
    encode(&mut text, registry).expect("metrics are text");
    Metrics::parse(&text).sum("cache_l2_fills_total", &[("result", "kept")]) as u64
}
