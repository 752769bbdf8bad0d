//! The resilience bench: the service under load while its servers are frozen, killed and
//! overloaded. `make chaos` plays a minute of faults. `make resilience` measures everything and
//! writes `docs/resilience.md`. `make soak` searches for leaks.
//!
//! Exit status 0 means that all required checks passed. Everything runs on loopback, with its own
//! servers, and ends with the run.

mod bulkhead;
#[allow(dead_code)]
#[path = "../../../benches/peers/compare/src/catalogue.rs"]
mod catalogue;
mod chart;
mod cold;
mod distance;
mod environment;
mod failover;
mod goals;
mod load;
#[path = "../../../benches/peers/compare/src/miss.rs"]
mod miss;
#[path = "../../../benches/costs/numbers.rs"]
mod numbers;
mod outage;
mod overload;
#[allow(dead_code)]
mod pace;
mod peers;
#[path = "../../../benches/peers/compare/src/pin.rs"]
mod pin;
mod recorder;
#[allow(dead_code)]
#[path = "../../../benches/peers/compare/src/redis_server.rs"]
mod redis_server;
mod refusals;
mod regions;
mod report;
mod rolling;
#[path = "../../../benches/peers/compare/src/server.rs"]
mod server;
mod slow_database;
mod soak;
mod stampede;
mod tenants;
mod timeline;
mod unreachable;
mod workload;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Parser, ValueEnum};

use aside_testkit::{process, redis_nodes::Kind};
use environment::Environment;

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum, default_value = "chaos")]
    run: Run,
    /// Length of a soak, in seconds
    #[arg(long, default_value_t = 1_200)]
    seconds: u64,
    /// For refusals: one short round, in which only checks that hold on any machine count
    #[arg(long)]
    short: bool,
    /// For refusals: only this part
    #[arg(long, value_parser = refusals::PARTS)]
    only: Option<String>,
    /// The flag that cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Run {
    /// A minute of faults
    Chaos,
    /// A primary of Redis fails, behind Sentinels and in a Cluster
    Failover,
    /// Three instances behind a balancer are restarted one after the other
    Rolling,
    /// Two regions with a long round trip between them
    Regions,
    /// Refused requests and the speed of the others, against a service without a cache
    Refusals,
    /// All figures
    All,
    /// Random faults for a long time, and afterwards a search for leaks
    Soak,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Arguments { run, seconds, short, only, .. } = Arguments::parse();
    let begun = Instant::now();
    // Must be read before this run pins itself to one core.
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let stage = |title: &str| eprintln!("{:>4} s  {title}", begun.elapsed().as_secs());
    stage("servers and data");
    let mut environment = Environment::build().await?;
    let sections = match run {
        Run::Soak => vec![soak::measure(&mut environment, seconds).await],
        Run::Chaos => vec![timeline::measure(&mut environment).await],
        Run::Failover => {
            stage("Sentinels");
            let sentinel = failover::measure(&environment, Kind::Sentinel).await;
            stage("a Cluster");
            vec![sentinel, failover::measure(&environment, Kind::Cluster).await]
        }
        Run::Regions => vec![regions::measure(&mut environment).await],
        Run::Rolling => vec![rolling::measure(&environment).await],
        Run::Refusals => vec![refusals::measure(&mut environment, only.as_deref(), short).await],
        Run::All => {
            stage("a minute of faults");
            let timeline = timeline::measure(&mut environment).await;
            stage("a stampede");
            let stampede = stampede::measure(&environment).await;
            stage("a bulkhead");
            let bulkhead = bulkhead::measure(&mut environment).await;
            stage("against a service without a cache");
            vec![refusals::measure(&mut environment, only.as_deref(), short).await, timeline, stampede, bulkhead]
        }
    };
    environment.end().await;
    stage("done");
    let root = repository();
    let head = |title, command| head(cores, title, command);
    let (file, pictures, head) = match run {
        Run::All => ("docs/resilience.md", "resilience", head("When things break", "make resilience")),
        Run::Failover => ("docs/failover.md", "failover", head("When a primary of Redis falls", "make failover")),
        Run::Regions => ("docs/windows.md", "windows", head("Two regions, measured", "make regions")),
        Run::Rolling => ("docs/rolling.md", "rolling", head("When instances are replaced", "make rolling")),
        Run::Refusals => ("target/chaos/refusals.md", "pictures", head("Refusals", "scripts/chaos.sh refusals")),
        Run::Chaos => ("target/chaos/chaos.md", "pictures", head("A minute of faults", "make chaos")),
        Run::Soak => ("target/chaos/soak.md", "pictures", head("A soak", "make soak")),
    };
    let holds = report::write(&root.join(file), pictures, &head, &sections)?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The root of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn head(cores: usize, title: &str, command: &str) -> String {
    format!(
        "# {title}\n\nWritten by `{command}`, all in one run, on {cores} cores shared by clients, instances, Postgres and \
         Redis. Read the ratios and the verdicts, because times depend on the machine.\n"
    )
}
