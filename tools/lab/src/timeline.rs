//! A minute under load while Redis and Postgres are frozen, killed and restored. Measures the
//! answers, their times, and the load on the database.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    environment::{Environment, Shared},
    load::{Asked, End, by_the_clock, count},
    recorder::{Gauge, columns, picture, row, until, watch},
    report::{Picture, Section},
};

/// Requests a second.
const RATE: f64 = 800.0;
const SECONDS: u64 = 60;
/// How long the service may need to recover after a server is back.
const RECOVERY: f64 = 4.0;

/// The faults, each with its first and last second.
const FAULTS: [(f64, f64, Fault); 4] = [
    (6.0, 12.0, Fault::RedisFrozen),
    (17.0, 23.0, Fault::RedisKilled),
    (29.0, 35.0, Fault::PostgresFrozen),
    (43.0, 49.0, Fault::PostgresKilled),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    RedisFrozen,
    RedisKilled,
    PostgresFrozen,
    PostgresKilled,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::RedisFrozen => "Redis frozen",
            Self::RedisKilled => "Redis killed",
            Self::PostgresFrozen => "Postgres frozen",
            Self::PostgresKilled => "Postgres killed",
        }
    }

    fn hits_redis(self) -> bool {
        matches!(self, Self::RedisFrozen | Self::RedisKilled)
    }

    async fn begin(self, environment: &mut Environment) {
        match self {
            Self::RedisFrozen => environment.redis.signal("STOP"),
            Self::RedisKilled => environment.redis.kill().await,
            Self::PostgresFrozen => environment.postgres.signal("STOP"),
            Self::PostgresKilled => environment.postgres.stop(true).await,
        }
    }

    async fn end(self, environment: &mut Environment) {
        match self {
            Self::RedisFrozen => environment.redis.signal("CONT"),
            Self::RedisKilled => environment.redis.launch().await,
            Self::PostgresFrozen => environment.postgres.signal("CONT"),
            Self::PostgresKilled => environment.postgres.launch().await,
        }
    }
}

pub async fn measure(environment: &mut Environment) -> Section {
    // L1 is so small that Redis matters.
    let settings = [("CACHE_L1_BYTES", "1000000"), ("CACHE_WARM_TOP", "200")];
    let fleet = [
        environment.instance("timeline", Shared::Redis, &settings).await,
        environment.instance("timeline", Shared::Redis, &settings).await,
    ];
    let fleet = Arc::new(fleet);
    let begun = Instant::now();
    let gauges = Arc::new(Mutex::new(Vec::new()));
    let watching = tokio::spawn(watch(Arc::clone(&fleet), begun, Arc::clone(&gauges)));
    let (workload, http, bases) =
        (environment.workload.clone(), environment.http.clone(), [fleet[0].url(""), fleet[1].url("")]);
    let load = tokio::spawn(async move {
        let request = || workload.request(&http, &bases[fastrand::usize(..2)]);
        by_the_clock(begun, RATE, Duration::from_secs(SECONDS), request).await
    });
    for (from, to, fault) in FAULTS {
        until(begun, from).await;
        eprintln!("{from:>4} s  {}", fault.name());
        fault.begin(environment).await;
        until(begun, to).await;
        fault.end(environment).await;
        eprintln!("{:>4.1} s  is back", begun.elapsed().as_secs_f64());
    }
    let asked = load.await.expect("the load ends");
    watching.abort();
    let _ = watching.await;
    for instance in Arc::into_inner(fleet).into_iter().flatten() {
        instance.stop().await;
    }
    let gauges = gauges.lock().map_or_else(|_| Vec::new(), |gauges| gauges.clone());
    section(&asked, &gauges)
}

/// The fault that affected a request. The request ran during the fault or, for Postgres, before the
/// recovery ended.
fn met(one: &Asked) -> Option<Fault> {
    let (from, to) = (one.at.as_secs_f64(), (one.at + one.took).as_secs_f64());
    let meets = |&&(begins, ends, fault): &&(f64, f64, Fault)| {
        let ends = if fault.hits_redis() { ends } else { ends + RECOVERY };
        to >= begins && from < ends
    };
    FAULTS.iter().find(meets).map(|(_, _, fault)| *fault)
}

fn section(asked: &[Asked], gauges: &[Gauge]) -> Section {
    let mut groups: BTreeMap<usize, Vec<Asked>> = BTreeMap::new();
    for one in asked {
        let at = met(one).and_then(|fault| FAULTS.iter().position(|(_, _, other)| *other == fault));
        groups.entry(at.map_or(0, |at| at + 1)).or_default().push(*one);
    }
    let name = |at: usize| if at == 0 { "all is well" } else { FAULTS[at - 1].2.name() };
    let mut section = Section {
        title: "A minute of faults",
        method: format!(
            "Two instances with an L1 of 1 MB each, {RATE} requests a second by the clock (94 % reads by the real popularity, writes of \
             prices and orders), for {SECONDS} s. Redis and Postgres are frozen (SIGSTOP) and killed, each for 6 s. Rows: the requests \
             that were under way during a fault, or, for Postgres, within {RECOVERY} s of its return; times in ms, from when a request \
             was due to the end of its answer."
        ),
        columns: columns(),
        rows: groups.iter().map(|(at, asked)| row(name(*at), asked)).collect(),
        picture: Some(Picture {
            file: "timeline.svg",
            svg: picture(asked, gauges, &FAULTS.map(|(from, to, fault)| (from, to, fault.name())), SECONDS),
        }),
        checks: Vec::new(),
    };
    let of = |at: usize, end: End| groups.get(&at).map_or(0, |asked| count(asked, end));
    section.check("every request is answered, and none with an error", count(asked, End::Failed) == 0);
    section.check("with Redis frozen or killed nothing is refused", of(1, End::Refused) + of(2, End::Refused) == 0);
    section.check("with Redis frozen or killed nothing is stale", of(1, End::Stale) + of(2, End::Stale) == 0);
    // The limit is low for two reasons. L1 and Redis hold only a part of the requested products.
    // And a third of the time is before the outage is noticed or after its end.
    let mostly = |at: usize| of(at, End::Stale) * 5 >= groups.get(&at).map_or(0, Vec::len);
    section.check("with Postgres frozen a fifth or more of the answers are stale", mostly(3));
    section.check("with Postgres killed a fifth or more of the answers are stale", mostly(4));
    let (checked, stale) = gauges.last().map_or((0.0, 0.0), |gauge| gauge.checked);
    section.check(
        format!("{checked} answers were held against the database, and none was older than promised"),
        checked > 0.0 && stale == 0.0,
    );
    section.check("when all is well nothing is refused or stale", of(0, End::Refused) + of(0, End::Stale) == 0);
    section.check(
        "all tiers answer when all is well",
        [End::L1, End::L2, End::Loaded, End::Written].iter().all(|end| of(0, *end) > 0),
    );
    section
}
