//! The consistency checker. It runs three real instances with a real Postgres and a real Redis.
//! Clients follow the real popularity of products, and a seeded script injects faults. Afterwards
//! every answer is compared with the committed states. `docs/consistency-checker.md` explains it.
//!
//! ```sh
//! scripts/consistency.sh --seconds 75                        # the short form
//! scripts/consistency.sh --release --operations 300000       # the long form
//! ```
//!
//! Exit status 0 means that no rule was broken and that the run saw enough events. Everything runs
//! on loopback and ends with the run.

mod calls;
mod check;
mod clients;
mod corruptor;
mod database_faults;
mod evidence;
mod fixture;
mod fleet;
mod histogram;
#[cfg(test)]
mod known_bad_histories;
mod nemesis;
mod notes;
mod pace;
mod redis_faults;
mod report;
mod seen;
mod sql_writers;
mod store;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Arc, atomic::AtomicBool},
};

use clap::Parser;
use sqlx::postgres::PgPoolOptions;
use tokio::{sync::Mutex, task::JoinSet};

use aside_testkit::{postgres_server::Postgres, process};
use check::history::{History, Micros};
use clients::{Client, World};
use fleet::Instance;
use nemesis::Arena;
use notes::Notes;
use pace::{Clock, millis, pause};
use report::{Phases, Report};
use store::{Mode, Store};

/// D, the service's default.
const MAX_STALENESS: Micros = 500_000;
/// The time before the first fault, in which the normal hit rate is measured.
const BASELINE_MS: u64 = 4_000;
/// How long the fleet may take to recover after the last fault, and for how long it is then
/// measured.
const RECOVERY_MS: u64 = 5_000;
const CALM_MS: u64 = 4_000;
/// The maximum time of a run, as a multiple of the requested time. A run takes longer than
/// requested only until it has seen enough.
const PATIENCE: u64 = 5;
/// Direct writes a second.
const SQL_RATE: f64 = 25.0;

/// Checks for stale answers under faults.
#[derive(Parser)]
struct Args {
    /// Minimum of seconds under faults; the run continues until it has seen enough.
    #[arg(long, default_value_t = 75)]
    seconds: u64,
    /// Minimum of requests; the run lasts as long as they take. With this option, faults last
    /// longer too.
    #[arg(long, default_value_t = 0)]
    operations: usize,
    /// Minimum of faults.
    #[arg(long, default_value_t = 0)]
    faults: usize,
    /// The seed of a run's choices, to repeat them (not their timing). Default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// The topology of Redis.
    #[arg(long, value_enum, default_value = "standalone")]
    redis: Mode,
    /// Only starts those servers, prints their addresses, and ends them on Ctrl-C.
    #[arg(long)]
    serve: bool,
    #[arg(long, default_value_t = 10)]
    clients: u16,
    /// The service's program. Default: the one of this build.
    #[arg(long, default_value_os_t = process::built("aside"))]
    program: PathBuf,
    /// The folder for the records. Default: a folder below that of the build.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.serve {
        return serve(args.redis).await;
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let target = args.program.ancestors().nth(2).unwrap_or(Path::new("target")).to_owned();
    let out = args.out.clone().unwrap_or_else(|| target.join("consistency").join(seed.to_string()));
    println!("consistency: seed {seed}, records in {}", out.display());
    match run(&args, seed, &out).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("consistency: the run could not be done: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs `make redis-sentinel` and `make redis-cluster`.
async fn serve(mode: Mode) -> ExitCode {
    let folder = std::env::temp_dir().join(format!("aside-redis-{}", std::process::id()));
    let store = Store::start(mode, &folder).await;
    for line in store.told() {
        println!("{line}");
    }
    println!("\nA service on it, in another terminal:\n");
    let settings = store.settings().into_iter().filter(|(name, _)| name.starts_with("REDIS"));
    let settings: Vec<String> = settings.map(|(name, value)| format!("{name}={value}")).collect();
    println!("    {} make run\n\nCtrl-C ends the servers.", settings.join(" "));
    let ended = tokio::signal::ctrl_c().await;
    drop(store);
    let _ = fs::remove_dir_all(&folder);
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(args: &Args, seed: u64, out: &Path) -> Result<bool, Box<dyn Error>> {
    fs::create_dir_all(out)?;
    let servers = std::env::temp_dir().join(format!("aside-consistency-{}", std::process::id()));
    fs::create_dir_all(&servers)?;
    let (postgres, redis) = (Postgres::start(&servers).await, Store::start(args.redis, &servers).await);
    let fleet = Arc::new(fleet::prepare(&args.program, &postgres, &redis, out).await);
    seed_database(&args.program, &fleet[0])?;
    let db = PgPoolOptions::new().max_connections(8).connect(&postgres.url(postgres.port)).await?;
    let hot = fixture::prepare(&db).await?;
    println!("{} products in {} categories, {} instances", hot.products.len(), hot.categories.len(), fleet.len());

    let (clock, notes, http) = (Clock::start(), Arc::new(Notes::new(args.redis)), client()?);
    for instance in fleet.iter() {
        instance.start().await;
    }
    for instance in fleet.iter() {
        instance.ready(&http).await;
    }
    let arena = Arc::new(Arena {
        postgres: Mutex::new(postgres),
        redis: Mutex::new(redis),
        fleet,
        db: db.clone(),
        notes,
        clock,
        stop: AtomicBool::new(false),
        long: args.operations > 0,
        http,
    });
    let phases = play(args, seed, &arena, World::new(hot)).await?;

    let audit = fixture::audit(&db, &clock).await?;
    db.close().await;
    let stepped = clock.stepped();
    let history = History { audit, records: arena.notes.records(), max_staleness: MAX_STALENESS };
    let report = Report::of(seed, history, phases, &arena.notes, stepped);
    report.write(out)?;
    drop(arena);
    let _ = fs::remove_dir_all(&servers);
    println!("{report}");
    Ok(report.passed())
}

/// Sends the traffic: first without faults, then under faults, then without faults again.
async fn play(args: &Args, seed: u64, arena: &Arc<Arena>, world: World) -> Result<Phases, Box<dyn Error>> {
    let (world, clock, notes) = (Arc::new(world), arena.clock, &arena.notes);
    let mut traffic = JoinSet::new();
    for number in 0..args.clients {
        let line = calls::Line {
            client: number,
            fleet: Arc::clone(&arena.fleet),
            http: client()?,
            notes: Arc::clone(notes),
            clock,
        };
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number));
        traffic.spawn(Client::new(line, Arc::clone(&world), seed).run());
    }
    let rng = fastrand::Rng::with_seed(seed ^ 0x5EED);
    let (db, sql_notes) = (arena.db.clone(), Arc::clone(notes));
    let writer = sql_writers::SqlWriter { db, world, notes: sql_notes, clock, rng };
    traffic.spawn(writer.run(SQL_RATE));
    for at in 0..arena.fleet.len() {
        let arena = Arc::clone(arena);
        traffic.spawn(async move { arena.notes.follow(at, &arena.fleet[at], &arena.http).await });
    }

    // The tiers are warm after the first half.
    pause(millis(BASELINE_MS / 2)).await;
    let baseline = clock.now();
    pause(millis(BASELINE_MS / 2)).await;
    let faults_from = clock.now();
    let nemesis = tokio::spawn(nemesis::play(Arc::clone(arena), seed));
    let mut told = clock.now();
    loop {
        pause(millis(200)).await;
        let lasted = (clock.now() - faults_from) / 1_000_000;
        let done = lasted >= args.seconds && notes.count() >= args.operations && notes.faults().len() >= args.faults;
        if done && (notes.enough() || lasted >= args.seconds.max(60) * PATIENCE) {
            break;
        }
        if clock.now() - told >= 10_000_000 {
            told = clock.now();
            println!("{}  {} requests", pace::seconds(told), notes.count());
        }
    }
    arena.stop.store(true, std::sync::atomic::Ordering::Release);
    nemesis.await?;
    for instance in arena.fleet.iter() {
        instance.heal().await;
    }
    for instance in arena.fleet.iter() {
        instance.ready(&arena.http).await;
    }
    let healed = clock.now();
    println!("{}  healed", pace::seconds(healed));
    pause(millis(RECOVERY_MS)).await;
    let calm = clock.now();
    pause(millis(CALM_MS)).await;
    let ended = clock.now();
    traffic.shutdown().await;
    Ok(Phases { baseline, faults_from, calm, ended })
}

/// Creates the schema and imports the real data.
fn seed_database(program: &Path, instance: &Instance) -> Result<(), Box<dyn Error>> {
    let seeded = Command::new(program).arg("seed").envs(instance.settings()).output()?;
    if !seeded.status.success() {
        return Err(String::from_utf8_lossy(&seeded.stderr).into_owned().into());
    }
    print!("{}", String::from_utf8_lossy(&seeded.stdout));
    Ok(())
}

/// A separate HTTP client for each client, so that clients share no connection.
fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().connect_timeout(millis(300)).pool_max_idle_per_host(1).build()
}
