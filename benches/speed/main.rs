//! The speed bench (`make bench`). It compares the service with a route that returns constant
//! bytes, Redis passed through, textbook cache-aside, and no cache. All are measured in one run.
//! Each server is a process on one core. It has the core for itself while it is measured, because
//! the other servers are stopped. The clients have the other core. The long run writes
//! `docs/speed.md`.

mod client;
mod contenders;
mod data;
#[path = "../costs/figure.rs"]
#[allow(dead_code)]
mod figure;
mod forms;
#[path = "../costs/numbers.rs"]
mod numbers;
mod pin;
#[path = "../costs/plot.rs"]
mod plot;
mod scale;
mod servers;
mod start;
mod table;
mod trace;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use client::{Load, Sample, get, run};
use contenders::{Contender, Setting};
use data::Data;
use numbers::Spread;
use servers::Server;
use table::{Report, Row, document};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only shows that everything works
    #[arg(long)]
    short: bool,
    /// Folder of the full set of data (default: the sample)
    #[arg(long, value_name = "DIR")]
    full: Option<PathBuf>,
    /// The flag that cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Serves one of the programs that the service is compared with
    Contender(ContenderArguments),
}

#[derive(Args)]
struct ContenderArguments {
    contender: Contender,
    #[arg(long)]
    port: u16,
}

/// Products of the loads that a tier answers.
const HOT: usize = 1_000;
const CONNECTIONS: usize = 16;

/// The allocator of the service, because the comparison is not about allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let Arguments { command, short, full, .. } = Arguments::parse();
    let variable = |name: &str| {
        let value = env::var(name).ok().filter(|value| !value.is_empty());
        value.unwrap_or_else(|| panic!("{name} isn't set: run scripts/bench.sh"))
    };
    let (database_url, redis_url) = (variable("DATABASE_URL"), variable("REDIS_URL"));
    if let Some(Command::Contender(ContenderArguments { contender, port })) = command {
        let (head, body) = (variable("BENCH_HEAD"), variable("BENCH_BODY"));
        contenders::serve(contender, Setting { port, database_url, redis_url, head, body }).await;
        return;
    }
    let data = Data::prepare(&database_url, full).await;
    let (rounds, hits) = if short { (1, 1_000) } else { (7, 200_000) };
    eprintln!("  the order of the data set, read by read");
    let trace = trace::replay(&data.db).await;
    eprintln!("  up to a million entries");
    let scale = scale::measure(&data.db, rounds, hits).await;
    eprintln!("  forms in L2");
    let forms = forms::measure(&data.db, rounds).await;
    let seeded = data.seeded;
    let servers = tokio::task::spawn_blocking(move || {
        let start = start::measure(&database_url, &redis_url, rounds);
        (start, measure(&data, &database_url, &redis_url, short))
    });
    let (start, rows) = servers.await.expect("a result");
    let report = Report { rows, trace, scale, forms, start, seeded };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(if short { "target/speed" } else { "docs" });
    fs::create_dir_all(&folder).expect("a folder for the figures");
    let text = document(&report);
    fs::write(folder.join("speed.md"), &text).expect("the figures are written");
    fs::write(folder.join("speed.svg"), plot::svg(&table::figures(&report.rows))).expect("the picture is written");
    println!("{text}\nwritten to {}", folder.display());
}

/// One server under one load.
struct Lane<'a> {
    name: &'static str,
    server: &'a Server,
    requests: &'a [Vec<u8>],
    connections: usize,
    /// Whether every request must be a miss. Then no product comes twice in a round, and Redis is
    /// emptied before it.
    cold: bool,
    samples: Vec<Sample>,
}

impl Lane<'_> {
    fn load(&self, lasting: Duration) -> Load {
        Load { connections: self.connections, lasting }
    }
}

fn measure(data: &Data, database_url: &str, redis_url: &str, short: bool) -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let one = vec![get(&format!("/products/{}", data.popular[0]))];
    let hot: Vec<Vec<u8>> = data.sampled(HOT, 20_000).iter().map(|id| get(&format!("/products/{id}"))).collect();
    let all: Vec<Vec<u8>> = data.shuffled().iter().map(|id| get(&format!("/products/{id}"))).collect();

    // A database of Redis that is emptied before every round of misses.
    let apart = format!("{}/1", redis_url.trim_end_matches('/'));
    let no_l1 = [("CACHE_L1_BYTES", "0")];
    let l1 = Server::service("l1", database_url, redis_url, &[]);
    let l2 = Server::service("l2", database_url, redis_url, &no_l1);
    let cold = Server::service("cold", database_url, &apart, &no_l1);
    let alone = Server::service("alone", database_url, "", &no_l1);
    let (head, body) = runtime.block_on(client::whole(l1.address(), &one[0]));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (head, body) = (text(head), text(body));
    runtime.block_on(data::fill_raw(redis_url, &data.popular[..HOT], &body));
    let contender = |which| Server::contender(which, database_url, redis_url, &head, &body);
    let (bare, raw, pooled) = (contender(Contender::Bare), contender(Contender::Raw), contender(Contender::Pooled));
    let (textbook, no_cache) = (contender(Contender::Textbook), contender(Contender::NoCache));

    let lane = |name: &'static str, server, requests, cold| {
        let connections = if name.ends_with(ONE_CLIENT) { 1 } else { CONNECTIONS };
        Lane { name, server, requests, connections, cold, samples: Vec::new() }
    };
    let mut lanes = [
        lane(BARE, &bare, &one, false),
        lane(L1_ONE, &l1, &one, false),
        lane(L1_MANY, &l1, &hot, false),
        lane(TEXTBOOK, &textbook, &one, false),
        lane(RAW, &raw, &hot, false),
        lane(POOLED, &pooled, &hot, false),
        lane(L2, &l2, &hot, false),
        lane(NO_CACHE, &no_cache, &all, false),
        lane(MISS, &alone, &all, true),
        lane(MISS_BOTH, &cold, &all, true),
        lane(NO_CACHE_ONE, &no_cache, &all, false),
        lane(MISS_ONE, &alone, &all, true),
        lane(MISS_BOTH_ONE, &cold, &all, true),
    ];
    let (rounds, seconds) = if short { (1, 0.3) } else { (9, 2.0) };
    let lasting = Duration::from_secs_f64(seconds);
    for lane in &lanes {
        lane.server.go_on();
        run(lane.server.address(), lane.requests, lane.load(lasting / 2), false);
        lane.server.stop();
    }
    for round in 0..rounds {
        eprintln!("  round {} of {rounds}", round + 1);
        for step in 0..lanes.len() {
            let at = (round + step) % lanes.len();
            let lane = &mut lanes[at];
            lane.server.go_on();
            // Warms up connections, floors and the processor's caches.
            run(lane.server.address(), lane.requests, lane.load(lasting / 10), false);
            if lane.cold {
                runtime.block_on(data::flush(&apart));
            }
            let before = lane.server.processor_time();
            let sample = run(lane.server.address(), lane.requests, lane.load(lasting), lane.cold);
            let processor = (lane.server.processor_time() - before) / sample.micros.len() as f64;
            lane.samples.push(Sample { processor, ..sample });
            lane.server.stop();
        }
    }
    rows(&lanes)
}

const BARE: &str = "a route with constant bytes";
const L1_ONE: &str = "Aside, L1 hit, one product";
const L1_MANY: &str = "Aside, L1 hits, real popularity";
const TEXTBOOK: &str = "textbook cache-aside, hit in memory";
const RAW: &str = "Redis passed through";
const L2: &str = "Aside, L2 hits";
const NO_CACHE: &str = "no cache";
const MISS: &str = "Aside, misses, no Redis";
const MISS_BOTH: &str = "Aside, misses in memory and in Redis";
const POOLED: &str = "Redis passed through, a connection of a pool for each request";
const ONE_CLIENT: &str = ", one client";
const NO_CACHE_ONE: &str = "no cache, one client";
const MISS_ONE: &str = "Aside, misses, no Redis, one client";
const MISS_BOTH_ONE: &str = "Aside, misses in memory and in Redis, one client";

fn rows(lanes: &[Lane]) -> Vec<Row> {
    let of = |name: &str| lanes.iter().find(|lane| lane.name == name).expect("a lane");
    let rates = |lane: &Lane| lane.samples.iter().map(|sample| sample.rate).collect::<Vec<_>>();
    let processors = |lane: &Lane| lane.samples.iter().map(|sample| sample.processor).collect::<Vec<_>>();
    let quantiles = |lane: &Lane, part| lane.samples.iter().map(|sample| sample.quantile(part)).collect::<Vec<_>>();
    let row = |lane: &Lane, base: &str| {
        let base = of(base);
        Row {
            name: lane.name,
            rate: Spread::of(&rates(lane)),
            processor: Spread::of(&processors(lane)),
            p50: Spread::of(&quantiles(lane, 0.5)),
            p99: Spread::of(&quantiles(lane, 0.99)),
            base: base.name,
            processors: Spread::of_ratios(&processors(lane), &processors(base)),
            rates: Spread::of_ratios(&rates(lane), &rates(base)),
            p50s: Spread::of_ratios(&quantiles(lane, 0.5), &quantiles(base, 0.5)),
            p99s: Spread::of_ratios(&quantiles(lane, 0.99), &quantiles(base, 0.99)),
        }
    };
    let pairs = [
        (BARE, BARE),
        (L1_ONE, BARE),
        (L1_MANY, BARE),
        (L1_ONE, TEXTBOOK),
        (L1_ONE, NO_CACHE),
        (TEXTBOOK, BARE),
        (L2, RAW),
        (POOLED, RAW),
        (MISS, NO_CACHE),
        (MISS_BOTH, NO_CACHE),
        (MISS_ONE, NO_CACHE_ONE),
        (MISS_BOTH_ONE, NO_CACHE_ONE),
    ];
    pairs.map(|(name, base)| row(of(name), base)).into()
}
