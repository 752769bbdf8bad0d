//! Ten times as many requests as can be served: how many are served all the same.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::{
    load::{Asked, End, ask, by_clients, by_the_clock, count, milliseconds},
    numbers::{grouped, quantile, short},
    report::Section,
    scene::{Scene, Shared},
    support::proxy::Fault,
};

/// Postgres seems this far away, in each direction: so it, and not the machine that also runs the clients, is the bottleneck.
const DISTANCE: Duration = Duration::from_millis(10);
const PHASE: Duration = Duration::from_secs(8);
/// No more than loads that may be under way, so that none is refused.
const CLIENTS: [usize; 3] = [8, 16, 32];

pub async fn measure(scene: &Scene) -> Section {
    let settings = [("CACHE_WARM_TOP", "0"), ("CACHE_L1_BYTES", "0")];
    let instance = scene.instance("overload", Shared::Nothing, &settings).await;
    scene.to_postgres.set(Fault::Delay(DISTANCE));
    let (goods, http, base) = (scene.goods.clone(), scene.http.clone(), instance.url(""));
    let request = move || http.get(format!("{base}/products/{}", goods.any()));
    let begun = Instant::now();
    let served = |asked: &[Asked]| asked.len() - count(asked, End::Refused) - count(asked, End::Failed);
    let mut section = Section {
        title: "Ten times too many requests",
        method: format!(
            "Reads of products that no tier has (no Redis, no L1) with Postgres {} ms away in each direction; {} s each. First clients who \
             wait for their answers, more and more of them: the most that is served in a second, with none refused, is what can be sustained. Then ten times \
             that by the clock, while `/livez` is asked every 50 ms. Times in ms.",
            DISTANCE.as_millis(),
            PHASE.as_secs()
        ),
        columns: ["load", "requests", "served, 1/s", "refused", "failed", "median", "99 %", "memory, MB"]
            .map(str::to_owned)
            .to_vec(),
        rows: Vec::new(),
        picture: None,
        checks: Vec::new(),
    };
    let row = |name: String, asked: &[Asked], memory: f64| {
        let mut took: Vec<f64> = milliseconds(asked.iter().filter(|one| one.end != End::Refused));
        let part =
            |took: &mut Vec<f64>, part| if took.is_empty() { String::new() } else { short(quantile(took, part)) };
        vec![
            name,
            grouped(asked.len() as i64),
            short(served(asked) as f64 / PHASE.as_secs_f64()),
            grouped(count(asked, End::Refused) as i64),
            grouped(count(asked, End::Failed) as i64),
            part(&mut took, 0.5),
            part(&mut took, 0.99),
            short(memory / 1e6),
        ]
    };
    let mut peak: f64 = 0.0;
    for clients in CLIENTS {
        let asked = by_clients(begun, clients, PHASE, request.clone()).await;
        section.rows.push(row(format!("{clients} clients"), &asked, instance.memory()));
        section.check(format!("nothing is refused to {clients} clients"), served(&asked) == asked.len());
        peak = peak.max(served(&asked) as f64 / PHASE.as_secs_f64());
    }
    let before = instance.memory();
    let alive = probe(scene.http.clone(), instance.url("/livez"));
    let asked = by_the_clock(begun, peak * 10.0, PHASE, request).await;
    let mut probes = alive.await.expect("the probes end");
    section.rows.push(row("ten times".to_owned(), &asked, instance.memory()));
    scene.to_postgres.restore();
    let goodput = served(&asked) as f64 / PHASE.as_secs_f64() / peak;
    let grown = instance.memory() - before;
    instance.stop().await;
    section.method.push_str(&format!(
        " Served under ten times the load: {} of the peak. Memory grew by {} MB. The slowest of {} probes took {} ms.",
        short(goodput),
        short(grown / 1e6),
        probes.len(),
        short(quantile(&mut probes, 1.0))
    ));
    section.check("at ten times the load 80 % or more of the peak is served", goodput >= 0.8);
    section.check("every request is answered", count(&asked, End::Failed) == 0);
    section.check("memory grows by less than 32 MB", grown < 32e6);
    section
}

/// Asks whether the instance lives, and how long it takes to say so, in milliseconds.
fn probe(http: reqwest::Client, url: String) -> JoinHandle<Vec<f64>> {
    tokio::spawn(async move {
        let (begun, mut asked) = (Instant::now(), Vec::new());
        while begun.elapsed() < PHASE {
            asked.push(ask(begun, Instant::now(), http.get(&url)).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(count(&asked, End::Failed) + count(&asked, End::Refused), 0, "a probe was not answered");
        milliseconds(&asked)
    })
}
