//! Checks that the address of the database still leads to the server that a connection follows.
//!
//! A DNS name or a proxy can be switched to another primary while open connections stay up. Polls
//! on an old connection would then be answered by the old server, and would prove nothing. So about
//! once a second a new connection asks the server behind the address when it was started. If this
//! is another run of a server, the old connection ends, and the next one finds another epoch.
//!
//! A new connection costs Postgres as much as dozens of polls. Instances therefore share the checks:
//! each check leaves its time in a sequence of the server that it reached. An instance that finds a
//! recent time on the server that it follows needs no check of its own. The sequence is unlogged
//! and belongs to no transaction, so the time costs neither log nor dead rows.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio_util::task::AbortOnDropHandle;

use crate::database::pool::ConnectionPool;

/// The longest time between two checks of the address, by any instance.
const ADDRESS_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The largest random delay of a check. It makes it rare that two instances check at once.
const ADDRESS_CHECK_JITTER: Duration = Duration::from_millis(200);
/// The longest time for a check.
const ADDRESS_CHECK_LIMIT: Duration = Duration::from_secs(2);

/// The checks of one connection.
pub(crate) struct AddressWatch {
    pool: ConnectionPool,
    /// The start time of the server that the connection follows.
    run: String,
    due: Instant,
    check: Option<AbortOnDropHandle<Result<String, sqlx::Error>>>,
}

impl AddressWatch {
    /// Watches the address of `db`, which has just connected to the server behind it.
    ///
    /// # Errors
    /// If the database can't be asked.
    pub(crate) async fn new(pool: &ConnectionPool, db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self { pool: pool.clone(), run: run_of_server(db).await?, due: due_after(Duration::ZERO), check: None })
    }

    /// Begins a check if one is due, and looks at the result of the last one. It never waits for a
    /// check.
    ///
    /// # Errors
    /// If the address leads to another server now, or if `db` can't be asked.
    pub(crate) async fn look(&mut self, db: &mut PgConnection) -> Result<(), sqlx::Error> {
        if let Some(check) = self.check.take_if(|check| check.is_finished()) {
            match check.await {
                Ok(Ok(run)) if run != self.run => {
                    return Err(sqlx::Error::Protocol("the address of the database leads to another server".into()));
                }
                // While no connection can be made, no program can write to another server either.
                Ok(Err(error)) => tracing::debug!(%error, "the address of the database could not be checked"),
                _ => {}
            }
            self.due = due_after(Duration::ZERO);
        }
        if self.check.is_none() && Instant::now() >= self.due {
            match since_last_check(db).await? {
                Some(since) if since < ADDRESS_CHECK_INTERVAL => self.due = due_after(since),
                _ => self.check = Some(AbortOnDropHandle::new(tokio::spawn(check(self.pool.clone())))),
            }
        }
        Ok(())
    }
}

fn due_after(since_last_check: Duration) -> Instant {
    Instant::now()
        + ADDRESS_CHECK_INTERVAL.saturating_sub(since_last_check)
        + ADDRESS_CHECK_JITTER.mul_f64(fastrand::f64())
}

/// Opens a new connection, and returns the start time of the server that answers.
async fn check(pool: ConnectionPool) -> Result<String, sqlx::Error> {
    let checked = async {
        let mut db = pool.connect(&[]).await?;
        let run = run_of_server(&mut db).await?;
        let told = "select setval('cache_address_checked', (extract(epoch from clock_timestamp()) * 1000)::bigint)";
        // A server that accepts no writes can't tell the others.
        if let Err(error) = sqlx::raw_sql(told).execute(&mut db).await {
            tracing::debug!(%error, "a check of the address is not told to other instances");
        }
        db.close().await?;
        Ok(run)
    };
    tokio::time::timeout(ADDRESS_CHECK_LIMIT, checked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// The start time of the server. No two servers share it.
async fn run_of_server(db: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::Row::try_get(&sqlx::raw_sql("select pg_postmaster_start_time()::text").fetch_one(db).await?, 0)
}

/// The time since an instance last reached this server by a new connection. `None` if the clock of
/// the server was set back since.
async fn since_last_check(db: &mut PgConnection) -> Result<Option<Duration>, sqlx::Error> {
    let sql = "select (extract(epoch from clock_timestamp()) * 1000 - last_value)::float8 from cache_address_checked";
    let milliseconds: f64 = sqlx::query_scalar(sql).fetch_one(db).await?;
    Ok(Duration::try_from_secs_f64(milliseconds / 1000.0).ok())
}
