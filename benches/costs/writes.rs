//! The cost of a write: a plain transaction compared with the same one through the cache, including
//! the tags that a write raises.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aside::{
    app,
    domain::{
        DomainError,
        products::{Product, ProductChange, store},
    },
    http::Services,
    seed,
};
use aside_cache::{ExpectedVersion, Tag, Write};
use tokio::task::JoinSet;

use crate::{
    environment::Environment,
    figure::{Figure, interleaved},
    numbers::{Spread, grouped, quantile},
};

const CLIENTS: usize = 8;
const SHARDS: i64 = 16;

/// The way in which a price is changed.
#[derive(Clone, Copy)]
enum Way {
    /// Begin, lock, update, commit.
    Plain,
    /// `CachedProductService::update_product`, as PATCH calls it: one statement.
    Service,
    /// The statements of `Plain` through `Cache::begin`, with these tags.
    Named(fn(&Product) -> Vec<Tag>),
}

/// One variant in one round.
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
}

pub async fn measure(environment: &Environment) -> Figure {
    let database = environment.database("writes").await;
    seed::seed(&database.patient, seed::Source::Sample, seed::Progress::Silent).await.expect("the sample is loaded");
    let ids: Vec<i64> =
        sqlx::query_scalar("select id from products").fetch_all(&database.pool).await.expect("the products");
    database.quiesce().await;
    let services = app::start_services(&database.config, database.pool.clone(), None).expect("the services start");
    crate::environment::until_current(&services.cache).await;

    let variants: [(&str, Way); 5] = [
        ("plain transaction", Way::Plain),
        ("own tag", Way::Service),
        ("own tag, tags of category and department", Way::Named(|product| product.list_tags().into())),
        ("own tag, one contended tag", Way::Named(|_| vec![Tag::new("hot", ())])),
        ("own tag, contended tag in 16 shards", Way::Named(|product| vec![Tag::new("hot", product.id % SHARDS)])),
    ];
    let ids: Arc<[i64]> = ids.into();
    let (rounds, time) = (environment.pick(7, 2), environment.time(2000, 300));
    interleaved(1, &variants, async |(_, way)| round(&services, &ids, *way, time / 4).await).await;
    let results = interleaved(rounds, &variants, async |(_, way)| round(&services, &ids, *way, time).await).await;
    services.cache.shutdown().await;
    drop(services);
    database.drop().await;

    let column = |of: fn(&Round) -> f64| -> Vec<Vec<f64>> {
        results.iter().map(|rounds| rounds.iter().map(of).collect()).collect()
    };
    let (rates, p50s, p99s) = (column(|round| round.rate), column(|round| round.p50), column(|round| round.p99));
    let ratio = |values: &[Vec<f64>], at: usize| Spread::of_ratios(&values[at], &values[0]);
    let row = |at: usize| {
        vec![
            variants[at].0.to_owned(),
            ratio(&rates, at).cell(),
            ratio(&p50s, at).cell(),
            ratio(&p99s, at).cell(),
            Spread::of(&rates[at]).cell(),
            Spread::of(&p50s[at]).cell(),
            Spread::of(&p99s[at]).cell(),
        ]
    };
    Figure {
        title: "Writes",
        method: format!(
            "{CLIENTS} clients change the prices of random ones of {} real products, {rounds} rounds of {:.1} s for \
             each variant. The plain transaction locks a product (`for no key update`), updates it and commits. *Own \
             tag* is `CachedProductService::update_product`, which PATCH calls. The others send the same statements \
             through `Cache::begin`, `invalidate` and `commit`. Redis is there, so every write but the plain one \
             also updates L2 in the background. The faster the disk commits, the larger is the part of a write that \
             the tags add.",
            grouped(ids.len() as i64),
            time.as_secs_f64()
        ),
        columns: &["a write with", "throughput", "p50", "p99", "writes/s", "p50 ms", "p99 ms"],
        rows: (0..variants.len()).map(row).collect(),
        scale: "throughput, as a part of the plain transaction's",
        bars: (0..variants.len()).map(|at| (variants[at].0.to_owned(), ratio(&rates, at))).collect(),
    }
}

async fn round(services: &Services, ids: &Arc<[i64]>, way: Way, time: Duration) -> Round {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (services, ids) = (services.clone(), Arc::clone(ids));
        clients.spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < time {
                let sent = Instant::now();
                write(&services, way, ids[fastrand::usize(..ids.len())]).await.expect("the price is changed");
                took.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
            took
        });
    }
    let mut took: Vec<f64> = clients.join_all().await.into_iter().flatten().collect();
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    Round { rate, p50: quantile(&mut took, 0.5), p99: quantile(&mut took, 0.99) }
}

/// A write in its own task, like every write of the service.
async fn write(services: &Services, way: Way, id: i64) -> Result<(), DomainError> {
    let change = ProductChange { price_cents: Some(fastrand::i64(1..1_000_000)), ..ProductChange::default() };
    let Services { cache, products, .. } = services.clone();
    match way {
        Way::Plain => {
            let work = async move {
                // The triggers are off too, because they are for writers outside of the service.
                let mut transaction = cache
                    .primary()
                    .begin_with("begin isolation level read committed; set local aside.invalidates = 'on'")
                    .await?;
                store::lock(&mut transaction, id).await?;
                store::update(id, &change, &ExpectedVersion::any()).fetch_optional(&mut *transaction).await?;
                Ok(transaction.commit().await?)
            };
            tokio::spawn(work).await.expect("no panic")
        }
        Way::Service => products.update_product(id, change, ExpectedVersion::any()).await.map(drop),
        Way::Named(tags) => {
            let work = async move |write: &mut Write| {
                store::lock(write.conn(), id).await?;
                let update = store::update(id, &change, &ExpectedVersion::any());
                if let Some(product) = update.fetch_optional(write.conn()).await? {
                    write.invalidate(Product::key(id));
                    write.invalidate_all(tags(&product));
                }
                Ok(())
            };
            cache.write(work).await
        }
    }
}
