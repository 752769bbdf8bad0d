//! Changes of a product's price compared with one plain update. The other programs use a copy of
//! the database whose triggers are off. They have no ledger, so they must not pay for one.

use std::{path::Path, str::FromStr};

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    catalogue::{Catalogue, paths},
    lanes::{self, Lane},
    redis_server::RedisServer,
    server::Program,
};

const SECONDS: f64 = 1.5;
const COPY: &str = "without_ledger";

pub async fn measure(
    catalogue: &Catalogue,
    aside: &Path,
    database_url: &str,
    redis_url: &str,
    rounds: usize,
) -> sqlx::Result<()> {
    let copy_url = copy(database_url).await?;
    let products = paths("products", &catalogue.shuffled());
    let peer = |name, file| Program::peer(name, file, &copy_url, redis_url, &products[0]);
    let (plain, textbook) = (peer("plain", "plain"), peer("textbook", "textbook"));
    let multi_tier = peer("multi-tier", "multi-tier");
    let service = Program::aside("Aside", aside, database_url, redis_url);
    RedisServer::connect(redis_url).flush();
    // Each change of a product sets another price. The same price would be no change.
    let args = [
        "--method",
        "PATCH",
        "--header",
        "Content-Type: application/merge-patch+json",
        "--body",
        "{\"price_cents\":{n}}",
    ];
    for clients in [1, 8, 32] {
        let lane = |name, program| {
            let mut lane = Lane::new(name, program, &products);
            lane.args = args.map(str::to_owned).to_vec();
            lane.is_filled = false;
            lane
        };
        let mut lanes = [
            lane("one plain update", &plain),
            lane("Aside", &service),
            lane("textbook", &textbook),
            lane("multi-tier", &multi_tier),
        ];
        lanes::measure(&mut lanes, clients, SECONDS, rounds);
        println!("{}", lanes::table("Changes of a price", clients, &lanes));
    }
    Ok(())
}

/// Copies the database and disables the triggers of the copy. Returns its URL.
async fn copy(database_url: &str) -> sqlx::Result<String> {
    let options = PgConnectOptions::from_str(database_url)?;
    let name = options.get_database().unwrap_or("postgres").to_owned();
    let mut maintenance = options.clone().database("template1").connect().await?;
    let statements = [format!("drop database if exists {COPY}"), format!("create database {COPY} template \"{name}\"")];
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut maintenance).await?;
    }
    maintenance.close().await?;
    let options = options.database(COPY);
    let mut copied = PgConnection::connect_with(&options).await?;
    sqlx::query("alter table products disable trigger user").execute(&mut copied).await?;
    copied.close().await?;
    Ok(options.to_url_lossy().to_string())
}
