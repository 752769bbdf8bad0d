//! Five hundred requests at once for a product that no tier holds, with a slow database. Counts the
//! loads and measures the time of all requests.

use std::time::{Duration, Instant};

use aside_testkit::{eventually, proxy::Fault};
use tokio::task::JoinSet;

use crate::{
    environment::{Environment, Instance, Shared},
    load::{Asked, End, ask, count, milliseconds},
    numbers::{Spread, quantile, short},
    report::Section,
};

const REQUESTS: usize = 500;
/// The delay of Postgres in each direction.
const DISTANCE: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;

/// The rounds of one variant.
#[derive(Default)]
struct Rounds {
    loads: Vec<f64>,
    /// The longest time, as a multiple of one load's time.
    ratios: Vec<f64>,
    single: Vec<f64>,
    longest: Vec<f64>,
    failed: usize,
}

pub async fn measure(environment: &Environment) -> Section {
    let mut section = Section {
        title: "A stampede",
        method: format!(
            "{REQUESTS} requests at once for one product that no tier has, spread over the instances, with Postgres {} ms away there and \
             as far back; {ROUNDS} rounds, each after some other reads; D is 5 s, so that polls of the ledger over this distance count. \"One load\" is the time of a single request for another cold product in the same round. \
             Medians; times in ms.",
            DISTANCE.as_millis()
        ),
        columns: ["instances", "Redis", "loads", "one load", "longest of all", "longest / one load", "failed"]
            .map(str::to_owned)
            .to_vec(),
        rows: Vec::new(),
        picture: None,
        checks: Vec::new(),
    };
    for (instances, shared) in [(1, Shared::Nothing), (1, Shared::Redis), (3, Shared::Nothing), (3, Shared::Redis)] {
        let rounds = variant(environment, instances, shared).await;
        let name = if shared == Shared::Redis { "yes" } else { "no" };
        let median = |values: &[f64]| short(Spread::of(values).median);
        section.rows.push(vec![
            instances.to_string(),
            name.to_owned(),
            Spread::of(&rounds.loads).cell(),
            median(&rounds.single),
            median(&rounds.longest),
            Spread::of(&rounds.ratios).cell(),
            rounds.failed.to_string(),
        ]);
        let expected = if shared == Shared::Redis { 1.0 } else { instances as f64 };
        let what = format!("instances: {instances}, Redis: {name}: loads in every round: {expected}, all answered");
        section.check(what, rounds.failed == 0 && rounds.loads.iter().all(|loads| *loads == expected));
        let what =
            format!("instances: {instances}, Redis: {name}: all answered within 1.2 times one load (median round)");
        section.check(what, Spread::of(&rounds.ratios).median <= 1.2);
    }
    section
}

async fn variant(environment: &Environment, instances: usize, shared: Shared) -> Rounds {
    eprintln!("  instances: {instances}");
    let settings = [("CACHE_WARM_TOP", "0"), ("CACHE_MAX_STALENESS_MS", "5000")];
    let mut fleet = Vec::new();
    for _ in 0..instances {
        let name = format!("stampede-{instances}-{}", shared == Shared::Redis);
        fleet.push(environment.instance(&name, shared, &settings).await);
    }
    for instance in &fleet {
        // An instance that was just started may not have polled the ledger yet.
        eventually("the instance uses its tiers", || async {
            (instance.metrics().await?.sum("cache_is_current", &[]) == 1.0).then_some(())
        })
        .await;
    }
    environment.to_postgres.set(Fault::Delay(DISTANCE));
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        // Opens connections and prepares statements, as in a busy service.
        for _ in 0..3 {
            all_at_once(environment, &fleet, instances * 8, || environment.workload.next()).await;
        }
        let single = all_at_once(environment, &fleet, 1, || environment.workload.next()).await;
        let cold = environment.workload.next();
        let before = loads(&fleet).await;
        let asked = all_at_once(environment, &fleet, REQUESTS, || cold).await;
        rounds.loads.push(loads(&fleet).await - before);
        let (single, longest) = (quantile(&mut milliseconds(&single), 1.0), quantile(&mut milliseconds(&asked), 1.0));
        rounds.single.push(single);
        rounds.longest.push(longest);
        rounds.ratios.push(longest / single);
        rounds.failed += count(&asked, End::Failed) + count(&asked, End::Refused);
    }
    environment.to_postgres.restore();
    for instance in fleet {
        instance.stop().await;
    }
    rounds
}

async fn all_at_once(
    environment: &Environment,
    fleet: &[Instance],
    requests: usize,
    product: impl Fn() -> i64,
) -> Vec<Asked> {
    let (begun, mut asking) = (Instant::now(), JoinSet::new());
    for number in 0..requests {
        let url = fleet[number % fleet.len()].url(&format!("/products/{}", product()));
        asking.spawn(ask(begun, Instant::now(), environment.http.get(url)));
    }
    asking.join_all().await
}

async fn loads(fleet: &[Instance]) -> f64 {
    let mut sum = 0.0;
    for instance in fleet {
        let metrics = instance.metrics().await.expect("the instance's metrics");
        sum += metrics.sum("cache_loads_total", &[("pattern", "product")]);
    }
    sum
}
