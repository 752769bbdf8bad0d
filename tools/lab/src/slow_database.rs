//! A database whose every row takes a fixed time to read, so that Postgres and no processor of this
//! machine is the bottleneck. The tables of products and orders are behind views that sleep for
//! each row they return to a read. Sleeping takes no processor time. The capacity of such a
//! Postgres is therefore known: its connections divided by this time.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

use crate::{environment::Environment, peers::seed};

/// The time of one row. With ten connections 500 rows a second can be read.
pub const ROW: Duration = Duration::from_millis(20);
const NAME: &str = "slow";

/// Creates the database with the seeded data. Returns its URL.
pub async fn make(environment: &Environment) -> String {
    sqlx::query(AssertSqlSafe(format!("create database {NAME}"))).execute(&environment.db).await.expect("a database");
    let url = format!("postgres://aside@127.0.0.1:{}/{NAME}", environment.postgres.port);
    seed(&url);
    let db = PgPoolOptions::new().max_connections(1).connect(&url).await.expect("a connection");
    execute(&db, &format!("alter database {NAME} set enable_seqscan = off")).await;
    let seconds = ROW.as_secs_f64();
    // Statements that write read their rows without a pause.
    execute(
        &db,
        &format!(
            "create function pause() returns boolean language plpgsql volatile as $$ begin
                 if current_query() !~* '\\m(update|insert|delete)\\M' then perform pg_sleep({seconds}); end if;
                 return true;
             end $$"
        ),
    )
    .await;
    for table in ["products", "orders"] {
        execute(&db, &format!("alter table {table} rename to {table}_stored")).await;
        execute(&db, &format!("create view {table} as select * from {table}_stored where pause()")).await;
    }
    // A second tenant, for the measurements of tenants.
    execute(&db, "update orders_stored set tenant = 'acme' where id % 2 = 0").await;
    db.close().await;
    url
}

async fn execute(db: &PgPool, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(db).await.expect("a statement");
}
