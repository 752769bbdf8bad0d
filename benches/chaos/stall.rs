//! Redis frozen (SIGSTOP) in the middle of a load of hits and of a load of misses.

use std::time::{Duration, Instant};

use crate::{
    goods::Goods,
    load::{Asked, End, ask, by_clients, count, milliseconds},
    numbers::{Spread, quantile, short},
    report::Section,
    scene::{Instance, Scene, Shared},
};

/// Fewer than loads that may be under way, so that nothing is refused.
const CLIENTS: usize = 12;
const ROUNDS: usize = 5;
const PHASE: Duration = Duration::from_secs(2);
/// Products of the load of hits.
const HOT: usize = 200;

/// One variant's rounds.
#[derive(Default)]
struct Rounds {
    before: Vec<f64>,
    frozen: Vec<f64>,
    longest_before: Vec<f64>,
    longest: Vec<f64>,
    failed: usize,
}

impl Rounds {
    fn add(&mut self, before: &[Asked], frozen: &[Asked]) {
        let rate = |asked: &[Asked]| asked.len() as f64 / PHASE.as_secs_f64();
        let longest = |asked: &[Asked]| quantile(&mut milliseconds(asked), 1.0);
        self.before.push(rate(before));
        self.frozen.push(rate(frozen));
        self.longest_before.push(longest(before));
        self.longest.push(longest(frozen));
        let lost = |asked: &[Asked]| count(asked, End::Failed) + count(asked, End::Refused);
        self.failed += lost(before) + lost(frozen);
    }

    fn row(&self, name: &str, ratio: &Spread) -> Vec<String> {
        let median = |values: &[f64]| short(Spread::of(values).median);
        vec![
            name.to_owned(),
            median(&self.before),
            median(&self.frozen),
            ratio.cell(),
            Spread::of(&self.longest_before).cell(),
            Spread::of(&self.longest).cell(),
            self.failed.to_string(),
        ]
    }
}

pub async fn measure(scene: &Scene) -> Section {
    let hits = scene.instance("stall-hits", Shared::Redis, &[("CACHE_WARM_TOP", "200")]).await;
    let no_l1 = [("CACHE_WARM_TOP", "0"), ("CACHE_L1_BYTES", "0")];
    let misses = scene.instance("stall-misses", Shared::Redis, &no_l1).await;
    let alone = scene.instance("stall-alone", Shared::Nothing, &no_l1).await;
    let (mut of_hits, mut of_misses, mut of_alone) = <(Rounds, Rounds, Rounds)>::default();
    for round in 0..ROUNDS {
        eprintln!("  round {} of {ROUNDS}", round + 1);
        run(scene, &hits, |goods| goods.among(HOT), &mut of_hits).await;
        run(scene, &misses, Goods::any, &mut of_misses).await;
        run(scene, &alone, Goods::any, &mut of_alone).await;
    }
    for instance in [hits, misses, alone] {
        instance.stop().await;
    }
    let kept = Spread::of_ratios(&of_hits.frozen, &of_hits.before);
    let against = Spread::of_ratios(&of_misses.frozen, &of_alone.frozen);
    let itself = Spread::of_ratios(&of_alone.frozen, &of_alone.before);
    let lost = of_hits.failed + of_misses.failed + of_alone.failed;
    let mut section = Section {
        title: "Redis hangs",
        method: format!(
            "{CLIENTS} clients, each sending one request after the other, for {} s with Redis well and for as long from the moment it is \
             frozen; {ROUNDS} rounds. Hits: the {HOT} most viewed products, in L1. Misses: any of all products and no L1, so that \
             everything is asked of Redis (which holds more and more of it), and of Postgres when it hangs; beside them the same without any Redis, in the same round. \
             Requests a second, and the longest request in ms, as medians over the rounds.",
            PHASE.as_secs()
        ),
        columns: ["", "before, 1/s", "frozen, 1/s", "ratio", "longest before", "longest frozen", "refused or failed"]
            .map(str::to_owned)
            .to_vec(),
        rows: vec![
            of_hits.row("hits (ratio: to before)", &kept),
            of_misses.row("misses (ratio: frozen, to no Redis)", &against),
            of_alone.row("no Redis (ratio: to before)", &itself),
        ],
        picture: None,
        checks: Vec::new(),
    };
    section.check("no request is refused or fails", lost == 0);
    section.check("hits stay at 95 % or more", kept.median >= 0.95);
    section.check("misses stay at 80 % or more of what they are without Redis", against.median >= 0.8);
    section
}

async fn run(
    scene: &Scene,
    instance: &Instance,
    product: impl Fn(&Goods) -> i64 + Copy + Send + 'static,
    rounds: &mut Rounds,
) {
    let (goods, http, base) = (scene.goods.clone(), scene.http.clone(), instance.url("/products"));
    let request = move || http.get(format!("{base}/{}", product(&goods)));
    let begun = Instant::now();
    let before = by_clients(begun, CLIENTS, PHASE, request.clone()).await;
    // The clients go on while Redis stops.
    let going = tokio::spawn(by_clients(begun, CLIENTS, PHASE, request));
    scene.redis.signal("STOP");
    let frozen = going.await.expect("the load ends");
    scene.redis.signal("CONT");
    // Requests that would ask Redis make the instance look whether it is back.
    let closed = || async {
        ask(begun, Instant::now(), scene.http.get(instance.url(&format!("/products/{}", scene.goods.any())))).await;
        let metrics = instance.metrics().await?;
        (metrics.sum("cache_l2_breaker_open", &[]) == 0.0).then_some(())
    };
    crate::support::eventually("the breaker is closed", closed).await;
    rounds.add(&before, &frozen);
}
