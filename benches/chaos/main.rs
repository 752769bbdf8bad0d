//! Nothing falls over: the service under load while its servers are frozen, killed and overrun. `make chaos` plays a minute of
//! faults; `make resilience` measures everything and writes `docs/resilience.md`; `make soak` looks for leaks.
//!
//! Exit status 0: everything holds that must hold. All runs on loopback, with servers of their own, and ends with the run.

mod bulkhead;
mod chart;
mod goods;
mod load;
#[allow(dead_code)]
#[path = "../../tests/support/metrics.rs"]
mod metrics;
#[path = "../costs/numbers.rs"]
mod numbers;
mod overload;
#[allow(dead_code)]
mod pace;
mod report;
mod scene;
#[allow(dead_code)]
#[path = "../../tests/consistency/servers.rs"]
mod servers;
mod soak;
mod stall;
mod stampede;
#[path = "../../tests/consistency/support.rs"]
mod support;
mod timeline;

use std::{error::Error, path::Path, process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum};

use scene::Scene;

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum, default_value = "chaos")]
    run: Run,
    /// Length of a soak, in seconds
    #[arg(long, default_value_t = 1_200)]
    seconds: u64,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Run {
    /// A minute of faults
    Chaos,
    /// All figures
    All,
    /// Random faults for long, and afterwards a look for leaks
    Soak,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Arguments { run, seconds, .. } = Arguments::parse();
    let begun = Instant::now();
    let stage = |title: &str| eprintln!("{:>4} s  {title}", begun.elapsed().as_secs());
    stage("servers and data");
    let mut scene = Scene::build().await?;
    let sections = match run {
        Run::Soak => vec![soak::measure(&mut scene, seconds).await],
        Run::Chaos => vec![timeline::measure(&mut scene).await],
        Run::All => {
            stage("a minute of faults");
            let timeline = timeline::measure(&mut scene).await;
            stage("a stampede");
            let stampede = stampede::measure(&scene).await;
            stage("Redis hangs");
            let stall = stall::measure(&scene).await;
            stage("a bulkhead");
            let bulkhead = bulkhead::measure(&mut scene).await;
            stage("overload");
            vec![timeline, stampede, stall, bulkhead, overload::measure(&scene).await]
        }
    };
    scene.end().await;
    stage("done");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, pictures) = match run {
        Run::All => (root.join("docs"), "resilience/"),
        Run::Chaos | Run::Soak => (root.join("target/chaos"), ""),
    };
    let holds = report::write(&folder, pictures, &head(), &sections)?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn head() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# When things break\n\nWritten by `make resilience`, all in one run, on {cores} cores shared by clients, instances, Postgres and \
         Redis. Read the ratios and what holds: times belong to the machine.\n"
    )
}
