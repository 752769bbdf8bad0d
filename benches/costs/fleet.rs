//! The time that `Prefer: fleet-consistent` adds to a write.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aside::{app::App, seed};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    environment::{Environment, until_current},
    figure::{Figure, interleaved},
    numbers::{Spread, quantile},
};

/// Writes of one variant in one round.
const WRITES: usize = 3;

/// A running instance with its listener.
struct Instance {
    max_staleness: Duration,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

pub async fn measure(environment: &Environment) -> Figure {
    let database = environment.database("fleet").await;
    seed::seed(&database.patient, seed::Source::Sample, seed::Progress::Silent).await.expect("the sample is loaded");
    database.quiesce().await;
    let ids: Vec<i64> =
        sqlx::query_scalar("select id from products").fetch_all(&database.pool).await.expect("the products");
    let mut instances = Vec::new();
    for max_staleness in [500, 150].map(Duration::from_millis) {
        let mut config = database.config.clone();
        config.cache_max_staleness = max_staleness;
        instances.push(Instance::start(App::build(config).await.expect("an instance"), max_staleness).await);
    }
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let variants = [(&instances[0], false), (&instances[0], true), (&instances[1], false), (&instances[1], true)];
    let rounds = environment.pick(7, 2);
    let write = async |(instance, prefers): &(&Instance, bool)| {
        let mut took = Vec::new();
        for _ in 0..WRITES {
            took.push(instance.write(&client, ids[fastrand::usize(..ids.len())], *prefers).await);
        }
        quantile(&mut took, 0.5)
    };
    interleaved(1, &variants, write).await;
    let results = interleaved(rounds, &variants, write).await;

    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (pair, instance) in results.chunks(2).zip(&instances) {
        let d = instance.max_staleness.as_secs_f64() * 1000.0;
        let added: Vec<f64> = pair[1].iter().zip(&pair[0]).map(|(with, without)| (with - without) / d).collect();
        let (tag_version, added) = (format!("D = {d:.0} ms"), Spread::of(&added));
        rows.push(vec![tag_version.clone(), added.cell(), Spread::of(&pair[0]).cell(), Spread::of(&pair[1]).cell()]);
        bars.push((tag_version, added));
    }
    for instance in instances {
        instance.stop.cancel();
        instance.serving.await.expect("the instance ends");
    }
    database.drop().await;
    Figure {
        title: "Writes acknowledged for the fleet",
        method: format!(
            "PATCH of a price over HTTP by one client, without and with `Prefer: fleet-consistent`: the median of \
             {WRITES} in a round, {rounds} rounds. The answer is held back for D after the commit. The write itself \
             is not, so other writes do not wait."
        ),
        columns: &["", "added by the preference, as a part of D", "without it, ms", "with it, ms"],
        rows,
        scale: "time added to the answer, as a part of D",
        bars,
    }
}

impl Instance {
    async fn start(app: App, max_staleness: Duration) -> Self {
        let (address, stop) = (app.addr(), CancellationToken::new());
        let services = app.services().clone();
        let until = stop.clone();
        let serving = tokio::spawn(async move { app.run_until(until).await.expect("the instance serves") });
        until_current(&services.cache).await;
        Self { max_staleness, address, stop, serving }
    }

    /// The time of one write in milliseconds.
    async fn write(&self, client: &reqwest::Client, id: i64, prefers_fleet: bool) -> f64 {
        let body = format!("{{\"price_cents\": {}}}", fastrand::u32(1..1_000_000));
        let mut request = client.patch(format!("http://{}/products/{id}", self.address)).body(body);
        request = request.header("content-type", "application/merge-patch+json");
        if prefers_fleet {
            request = request.header("prefer", "fleet-consistent");
        }
        let begun = Instant::now();
        let reply = request.send().await.expect("an answer");
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        assert!(reply.status().is_success(), "{reply:?}");
        assert_eq!(reply.headers().contains_key("preference-applied"), prefers_fleet, "{reply:?}");
        took
    }
}
