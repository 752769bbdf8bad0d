//! The cost of floors: the memory of each, and the time of an L1 hit, which looks up a floor among
//! many.

use std::{fs, time::Instant};

use aside::{app, domain::products::Product, http::Services};
use aside_cache::{CacheMode, Outcome};

use crate::{
    environment::{Database, Environment, until_current},
    figure::{Figure, interleaved},
    numbers::{Spread, grouped, short},
};

/// Products in L1. In variants with floors, each of them has one.
const PRODUCTS: i64 = 10_000;
/// Tags that are raised at once. So few changes need little memory compared with the floors.
const STEP: i64 = 5_000;

/// An instance with this number of floors.
struct Instance {
    floors: i64,
    /// The memory of each floor, if the system reports it.
    bytes: Option<f64>,
    database: Database,
    services: Services,
}

pub async fn measure(environment: &Environment) -> Figure {
    // A million is the maximum of an instance.
    let counts = environment.pick([0, 100_000, 1_000_000], [0, 10_000, 50_000]);
    let mut instances = Vec::new();
    for floors in counts {
        instances.push(Instance::with_floors(environment, floors).await);
    }
    let (rounds, sweeps) = (environment.pick(7, 2), environment.pick(30, 5));
    let results = interleaved(rounds, &instances, async |instance| instance.hit(sweeps).await).await;
    let ratios: Vec<Spread> = results.iter().map(|result| Spread::of_ratios(result, &results[0])).collect();
    let row = |at: usize| {
        vec![
            grouped(instances[at].floors),
            ratios[at].cell(),
            Spread::of(&results[at]).cell(),
            instances[at].bytes.map_or("".to_owned(), short),
        ]
    };
    let figure = Figure {
        title: "Floors",
        method: format!(
            "Hits in L1 (`Cache::get`) of {} products in random order, by an instance with this many floors, which \
             include those of the products. A cell is the mean of {sweeps} passes over all products, in {rounds} \
             rounds. The memory is the growth of the process while the floors were added, waste of the allocator \
             included, measured once.",
            grouped(PRODUCTS)
        ),
        columns: &["floors", "time of a hit", "µs", "bytes for each floor"],
        rows: (0..instances.len()).map(row).collect(),
        scale: "time of a hit in L1, as a multiple of that without floors",
        bars: instances
            .iter()
            .zip(&ratios)
            .map(|(one, ratio)| (format!("{} floors", grouped(one.floors)), *ratio))
            .collect(),
    };
    for instance in instances {
        instance.services.cache.shutdown().await;
        instance.database.drop().await;
    }
    figure
}

impl Instance {
    async fn with_floors(environment: &Environment, floors: i64) -> Self {
        eprintln!("  an instance with {floors} floors");
        let mut database = environment.database(&format!("floors_{floors}")).await;
        database.config.l2 = None;
        let products =
            "insert into products (id, name, department, brand, category, type, price_cents, currency, stock)
                        select n, 'Bananas', 'PRODUCE', 'National', 'TROPICAL FRUIT', 'BANANAS', 94, 'USD', 1
                        from generate_series(1, $1) as n";
        sqlx::query(products).bind(PRODUCTS).execute(&database.patient).await.expect("products");
        let services = app::start_services(&database.config, database.pool.clone(), None).expect("the services start");
        until_current(&services.cache).await;
        let mut instance = Self { floors, bytes: None, database, services };
        // The first steps allocate memory that later ones use again.
        let first = (5 * STEP).min(floors / 2);
        instance.raise(0, first).await;
        let before = resident();
        instance.raise(first, floors).await;
        let grown = resident().zip(before).map(|(after, before)| after - before);
        instance.bytes = grown.filter(|_| floors > 0).map(|bytes| bytes / (floors - first) as f64);
        instance
    }

    /// Raises tag versions directly in the ledger, as other instances do, and waits until this
    /// instance knows them.
    async fn raise(&self, from: i64, to: i64) {
        let sql = "insert into cache_ledger (tag, version)
                   select 'product:' || n, nextval('cache_version') from generate_series($1 + 1, $2) as n";
        let mut known = from;
        while known < to {
            let next = (known + STEP).min(to);
            sqlx::query(sql).bind(known).bind(next).execute(&self.database.patient).await.expect("names are raised");
            while (self.services.cache.stats().floors as i64) < next {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            known = next;
        }
    }

    /// The mean time of a hit in microseconds.
    async fn hit(&self, sweeps: u32) -> f64 {
        let mut ids: Vec<i64> = (1..=PRODUCTS).collect();
        fastrand::shuffle(&mut ids);
        // Entries leave L1 after a minute at most.
        self.services.products.get_products(ids.clone(), CacheMode::Reload).await.expect("the products are loaded");
        let keys: Vec<_> = ids.into_iter().map(Product::key).collect();
        let begun = Instant::now();
        for _ in 0..sweeps {
            for key in &keys {
                let read = self.services.cache.get(key.clone()).only_if_cached().await;
                assert!(read.is_some_and(|read| read.outcome == Outcome::L1Hit), "L1 holds {key:?}");
            }
        }
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(sweeps) / PRODUCTS as f64
    }
}

/// Resident memory of the process in bytes. `None` without `/proc`.
fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}
