//! Two regions on one machine. Each has its own Redis. One has the Postgres primary and the other a
//! replica, and a proxy delays the traffic between them. Measures how long the far region serves
//! old values, and the times of its reads and writes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use aside_testkit::private_redis::Redis;
use aside_testkit::{
    process::free_port,
    proxy::{Fault, Proxy},
    within,
};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::{
    environment::{Environment, Instance, Shared},
    numbers::{quantile, short},
    report::Section,
};

/// The time that the connection between the regions adds to a round trip, in milliseconds.
const ROUND_TRIPS: [u64; 3] = [0, 50, 150];
/// D, the service's default, in milliseconds.
const MAX_STALENESS: f64 = 500.0;
const WRITES: usize = 40;
const READS: usize = 60;

pub async fn measure(environment: &mut Environment) -> Section {
    let folder = environment.folder.join("far");
    std::fs::create_dir_all(&folder).expect("a folder for the far region");
    let far_redis = Redis::start(&folder).await;
    let replica = environment.postgres.replica().await;
    let near = environment.instance("near", Shared::Redis, &[("REGION", "near")]).await;
    let mut section = Section {
        title: "Two regions",
        method: format!(
            "The near region has the Postgres primary, a Redis and an instance. The far region has a Redis and a \
             streaming replica of its own. Its instances reach the primary through a proxy, which adds the delay of \
             the first column to each round trip. Replication is not slowed. Window: the time from a write that was \
             acknowledged in the near region to the last request that the far instance answered without it, {WRITES} \
             writes. Reads: {READS} cold products each. Times in ms: median and largest, or median."
        ),
        columns: [
            "added to a round trip",
            "window",
            "largest",
            "write near, fleet-consistent (waits for D)",
            "write far",
            "hit far",
            "cold read far, by the replica",
            "cold read far, by the primary",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: Vec::new(),
        picture: None,
        checks: Vec::new(),
    };
    for added in ROUND_TRIPS {
        let line = Proxy::before(format!("127.0.0.1:{}", environment.postgres.port)).await;
        line.set(if added == 0 { Fault::None } else { Fault::Delay(Duration::from_millis(added) / 2) });
        let (primary, standby) = (environment.postgres.url(line.address().port()), replica.url(replica.port));
        let redis = format!("redis://127.0.0.1:{}/", far_redis.port);
        let settings = [("REGION", "far"), ("DATABASE_URL", primary.as_str()), ("REDIS_URL", redis.as_str())];
        let with_replica = [settings[0], settings[1], settings[2], ("DATABASE_READ_URL", standby.as_str())];
        let start = |settings| environment.instance_on((free_port(), free_port()), "far", Shared::Nothing, settings);
        let (far, without) = (start(&with_replica).await, start(&settings).await);

        let mut windows = windows(environment, &near, &far).await;
        let mut fleet =
            times(environment, WRITES / 2, || change(environment, &near, &[("prefer", "fleet-consistent")])).await;
        let mut writes = times(environment, WRITES / 2, || change(environment, &far, &[])).await;
        let hot = environment.workload.next();
        let mut hits = times(environment, READS, || environment.http.get(far.url(&format!("/products/{hot}")))).await;
        let mut by_replica = times(environment, READS, || cold(environment, &far)).await;
        let mut by_primary = times(environment, READS, || cold(environment, &without)).await;
        let largest = quantile(&mut windows, 1.0);
        let mut row = vec![format!("{added} ms"), short(quantile(&mut windows, 0.5)), short(largest)];
        let columns = [&mut fleet, &mut writes, &mut hits, &mut by_replica, &mut by_primary];
        row.extend(columns.map(|times| short(quantile(times, 0.5))));
        section.rows.push(row);
        section.check(format!("{added} ms: no window is longer than D ({MAX_STALENESS} ms)"), largest <= MAX_STALENESS);
        far.stop().await;
        without.stop().await;
    }
    near.stop().await;
    section
}

/// A request for a product that no tier holds.
fn cold(environment: &Environment, at: &Instance) -> reqwest::RequestBuilder {
    environment.http.get(at.url(&format!("/products/{}", environment.workload.next())))
}

fn change(environment: &Environment, at: &Instance, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let price = json!({ "price_cents": fastrand::u32(1..1_000_000) });
    let request = environment.http.patch(at.url(&format!("/products/{}", environment.workload.any()))).json(&price);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// The times of requests that are sent one after the other, in milliseconds.
async fn times(environment: &Environment, count: usize, request: impl Fn() -> reqwest::RequestBuilder) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let answer = environment.http.execute(request().build().expect("a request")).await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        let _ = answer.bytes().await;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    times
}

/// For each write in the near region, the beginning of the last request that the far region
/// answered without that write. Measured from the acknowledgement of the write.
async fn windows(environment: &Environment, near: &Instance, far: &Instance) -> Vec<f64> {
    let mut windows = Vec::new();
    for price in 1..=WRITES as i64 {
        let path = format!("/products/{}", environment.workload.any());
        let url: Url = far.url(&path).parse().expect("a URL");
        price_of(environment, url.clone()).await;
        let changed = environment.http.request(Method::PATCH, near.url(&path)).json(&json!({ "price_cents": price }));
        let changed = changed.send().await.expect("an answer");
        let acknowledged = Instant::now();
        assert_eq!(changed.status(), StatusCode::OK);
        let oldest = AtomicU64::new(0);
        let shown = || async {
            let begun = acknowledged.elapsed();
            let is_new = price_of(environment, url.clone()).await == price;
            if !is_new {
                oldest.store(begun.as_micros() as u64, Ordering::Relaxed);
            }
            is_new.then_some(())
        };
        within(Duration::from_secs(10), "the far region shows the write", shown).await;
        windows.push(oldest.into_inner() as f64 / 1_000.0);
    }
    windows
}

async fn price_of(environment: &Environment, url: Url) -> i64 {
    let answer = environment.http.get(url).send().await.expect("an answer");
    let product: Value = answer.json().await.expect("a product");
    product["price_cents"].as_i64().unwrap_or(-1)
}
