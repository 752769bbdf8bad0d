//! Failovers of Redis under load: one primary is killed and another one freezes. Measures the
//! answers meanwhile, and the time until Redis is used again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aside_testkit::{
    redis_nodes::{DEAD_SOON, Kind, RedisNodes},
    redis_server::binary,
};

use crate::{
    environment::{Environment, Shared},
    load::{Asked, End, by_the_clock, count},
    recorder::{Gauge, columns, picture, row, until, watch},
    report::{Picture, Section},
};

/// Requests a second.
const RATE: f64 = 500.0;
const SECONDS: u64 = 44;
/// When a primary fails and when it comes back, in seconds.
const KILLED: (f64, f64) = (8.0, 18.0);
const FROZEN: (f64, f64) = (26.0, 36.0);
/// Redis counts as used again when its part of the answers in one window reaches this multiple of
/// the earlier part.
const AGAIN: f64 = 0.8;
const WINDOW: f64 = 1.0;

pub async fn measure(environment: &Environment, kind: Kind) -> Section {
    let folder = std::env::temp_dir().join(format!("aside-failover-{}-{kind:?}", std::process::id()));
    let mut nodes = RedisNodes::start(kind, DEAD_SOON, &binary(), &folder).await;
    let (mode, name) = match kind {
        Kind::Sentinel => ("sentinel", "failover-sentinel"),
        Kind::Cluster => ("cluster", "failover-cluster"),
    };
    let urls = nodes.urls().join(",");
    // L1 is so small that Redis matters.
    let settings = [
        ("CACHE_L1_BYTES", "200000"),
        ("CACHE_WARM_TOP", "500"),
        ("REDIS_MODE", mode),
        ("REDIS_URL", urls.as_str()),
        ("ALLOW_INSECURE", "true"),
    ];
    let instance = || environment.instance(name, Shared::Nothing, &settings);
    let fleet = Arc::new([instance().await, instance().await]);
    let begun = Instant::now();
    let gauges = Arc::new(Mutex::new(Vec::new()));
    let watching = tokio::spawn(watch(Arc::clone(&fleet), begun, Arc::clone(&gauges)));
    let (workload, http, bases) =
        (environment.workload.clone(), environment.http.clone(), [fleet[0].url(""), fleet[1].url("")]);
    let load = tokio::spawn(async move {
        let request = || workload.request(&http, &bases[fastrand::usize(..2)]);
        by_the_clock(begun, RATE, Duration::from_secs(SECONDS), request).await
    });
    until(begun, KILLED.0).await;
    let fallen = nodes.primary_of("any").await.expect("a primary");
    nodes.kill_9(fallen).await;
    until(begun, KILLED.1).await;
    nodes.launch(fallen).await;
    nodes.settled().await;
    until(begun, FROZEN.0).await;
    let fallen = nodes.primary_of("any").await.expect("a primary");
    nodes.signal(fallen, "STOP");
    until(begun, FROZEN.1).await;
    nodes.signal(fallen, "CONT");
    let asked = load.await.expect("the load ends");
    watching.abort();
    let _ = watching.await;
    for instance in Arc::into_inner(fleet).into_iter().flatten() {
        instance.stop().await;
    }
    let gauges = gauges.lock().map_or_else(|_| Vec::new(), |gauges| gauges.clone());
    section(kind, &asked, &gauges)
}

fn section(kind: Kind, asked: &[Asked], gauges: &[Gauge]) -> Section {
    let (title, file) = match kind {
        Kind::Sentinel => ("A primary behind three Sentinels", "sentinel.svg"),
        Kind::Cluster => ("One of three primaries of a Cluster", "cluster.svg"),
    };
    let parts = [
        ("all is well", (2.0, KILLED.0)),
        ("a primary killed", KILLED),
        ("back as a replica", (KILLED.1, FROZEN.0)),
        ("a primary frozen", FROZEN),
        ("back, believing", (FROZEN.1, SECONDS as f64)),
    ];
    let during = |(from, to): (f64, f64)| -> Vec<Asked> {
        asked.iter().filter(|one| (from..to).contains(&one.at.as_secs_f64())).copied().collect()
    };
    let bands = [(KILLED.0, KILLED.1, "a primary killed"), (FROZEN.0, FROZEN.1, "a primary frozen")];
    let mut section = Section {
        title,
        method: format!(
            "Two instances with an L1 of 200 kB each, {RATE} requests a second by the clock (94 % reads by the real popularity, writes of \
             prices and orders). A Redis server that does not answer is given up after 1 s. A primary is killed and starts again {} s later; \
             another is frozen (SIGSTOP) for {} s and returns as if it were still the primary. Times in ms, from when a request \
             was due to the end of its answer.",
            KILLED.1 - KILLED.0,
            FROZEN.1 - FROZEN.0
        ),
        columns: columns(),
        rows: parts.iter().map(|(name, part)| row(name, &during(*part))).collect(),
        picture: Some(Picture { file, svg: picture(asked, gauges, &bands, SECONDS) }),
        checks: Vec::new(),
    };
    let all = |end: End| count(asked, end);
    section.check("every request is answered, and none with an error", all(End::Failed) == 0);
    section.check("nothing is refused or stale", all(End::Refused) + all(End::Stale) == 0);
    let (checked, stale) = gauges.last().map_or((0.0, 0.0), |gauge| gauge.checked);
    section.check(
        format!("{checked} answers were held against the database, and none was older than promised"),
        checked > 0.0 && stale == 0.0,
    );
    let share = |from: f64, to: f64| {
        let asked = during((from, to));
        count(&asked, End::L2) as f64 / asked.len().max(1) as f64
    };
    let before = share(2.0, KILLED.0);
    section.check("a tenth or more of the answers come from Redis when all is well", before >= 0.1);
    for (what, (fell, back)) in [("killed", KILLED), ("frozen", FROZEN)] {
        let moments = (0..).map(|step| fell + f64::from(step) * 0.1).take_while(|moment| *moment < back);
        let lowest = moments.clone().map(|moment| share(moment, moment + WINDOW)).fold(f64::INFINITY, f64::min);
        // The last moment at which Redis was not used.
        let again = moments.clone().filter(|moment| share(*moment, moment + WINDOW) < AGAIN * before).last();
        let took = again.map_or(0.0, |moment| moment + 0.1 - fell);
        section.check(
            format!(
                "{what}: Redis is used again {took:.1} s later, before the fallen one is back (its part of the answers: {:.0} % before, \
                 {:.0} % at the least)",
                before * 100.0,
                lowest * 100.0
            ),
            took + WINDOW < back - fell,
        );
    }
    section
}
