//! Compares the service with programs that share no code with it. `scripts/peers.sh` builds them,
//! starts Postgres and Redis and calls this program. Every compared program is a process with one
//! worker thread on one core. Clients, Postgres and Redis share the other core. Programs are
//! measured in turn, in rounds. So a temporary slowdown of the machine affects all of them.

mod catalogue;
mod hits;
mod lanes;
mod miss;
#[path = "../../../costs/numbers.rs"]
mod numbers;
mod pin;
#[allow(dead_code)]
#[path = "../../../../crates/aside-testkit/src/process.rs"]
mod process;
mod redis_server;
// Other functions of this module are used by tools/lab.
#[allow(dead_code)]
mod server;
mod writes;

use std::{env, error::Error, path::PathBuf, process::Command};

use clap::{Parser, Subcommand};
use sqlx::PgPool;

use catalogue::Catalogue;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    comparison: Comparison,
    /// How often each program is measured
    #[arg(long, default_value_t = 3, global = true)]
    rounds: usize,
}

#[derive(Subcommand)]
enum Comparison {
    /// Misses on a cold catalogue against one plain select
    Miss,
    /// Hits in memory against constant bytes, and hits in Redis against values passed through from
    /// Redis
    Hits,
    /// Changes of products against one plain update
    Writes,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { comparison, rounds } = Arguments::parse();
    pin::leave_the_servers_core();
    let (database_url, redis_url) = (env::var("DATABASE_URL")?, env::var("REDIS_URL")?);
    let aside = PathBuf::from(env::var("ASIDE_PROGRAM")?);
    let seeding = Command::new(&aside).arg("seed").env("DATABASE_URL", &database_url).output()?;
    if !seeding.status.success() {
        return Err(String::from_utf8_lossy(&seeding.stderr).into_owned().into());
    }
    let db = PgPool::connect(&database_url).await?;
    sqlx::query("vacuum (analyze)").execute(&db).await?;
    let catalogue = Catalogue::read(&db).await?;
    db.close().await;
    match comparison {
        Comparison::Miss => {
            let lanes = miss::measure(&catalogue, &aside, &database_url, &redis_url, rounds);
            println!("{}", miss::table(&lanes));
        }
        Comparison::Hits => hits::measure(&catalogue, &aside, &database_url, &redis_url, rounds),
        Comparison::Writes => writes::measure(&catalogue, &aside, &database_url, &redis_url, rounds).await?,
    }
    Ok(())
}
