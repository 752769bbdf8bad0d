//! Connects to Postgres: the pool, the wait for a server that is still starting, and migrations.
//! Errors contain advice and never the URL, which contains a password.

use std::{
    net::IpAddr,
    pin::pin,
    time::{Duration, Instant},
};

use aside_cache::ConnectionPool;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use super::{StartError, migrations::migrator};
use crate::config::Config;

/// The longest wait for a Postgres that does not answer yet.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(250);
/// The maximum lifetime of a connection.
const LIFETIME: Duration = Duration::from_secs(60);
/// The longest wait for a connection to the replica, which may be down.
const REPLICA_LIMIT: Duration = Duration::from_millis(200);
/// Statements are planned once for each connection. One index is right for each of them, for all
/// values of its parameters. Otherwise Postgres would plan a page again at every execution, because
/// a known limit promises less work. Planning costs as much as the page itself.
const PLANNED_ONCE: (&str, &str) = ("plan_cache_mode", "force_generic_plan");
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The interval between two log lines while migrations run.
const MIGRATION_NEWS: Duration = Duration::from_secs(5);

/// Creates a pool for serving. Statements end before the request that waits for them. The server
/// rolls back a transaction whose client hangs.
pub async fn serving_pool(config: &Config) -> Result<ConnectionPool, StartError> {
    let limit = config.request_timeout;
    let milliseconds = limit.as_millis().to_string();
    let settings = [
        ("statement_timeout", milliseconds.as_str()),
        ("lock_timeout", milliseconds.as_str()),
        ("idle_in_transaction_session_timeout", milliseconds.as_str()),
        PLANNED_ONCE,
    ];
    let acquire = (limit / 4).clamp(Duration::from_millis(100), Duration::from_secs(3));
    let pool = pool(config, acquire);
    let Some(direct) = direct_options(config)? else {
        let options = options(config)?.options(settings);
        expect_session(&options, &milliseconds, "DATABASE_URL").await?;
        return Ok(ConnectionPool::new("Postgres", pool, options));
    };
    expect_session(&direct.clone().options(settings), &milliseconds, "DATABASE_DIRECT_URL").await?;
    let options = options(config)?;
    // As `ConnectionPool` connects through a pooler.
    close(connect_patiently(&options.clone().extra_float_digits(None)).await?).await;
    let pool = ConnectionPool::through_pooler("Postgres", pool, options, direct.clone(), &settings);
    expect_one_server(&pool, &direct).await?;
    Ok(pool)
}

/// Returns an error if a session does not have the settings that its client asked for. A pooler
/// that ignores them shares sessions, and statements of several clients would disturb each other.
async fn expect_session(options: &PgConnectOptions, milliseconds: &str, setting: &str) -> Result<(), StartError> {
    let mut connection = connect_patiently(options).await?;
    let sql = "select setting from pg_catalog.pg_settings where name = 'statement_timeout'";
    // The simple protocol works behind every pooler.
    let row = sqlx::raw_sql(sql).fetch_one(&mut connection).await.map_err(|error| unreachable(options, &error))?;
    close(connection).await;
    if row.try_get::<&str, _>(0).is_ok_and(|set| set == milliseconds) {
        return Ok(());
    }
    Err(StartError {
        what: format!("{setting} leads to a pooler that drops the settings of a session, so time limits would be gone"),
        advice: "Let DATABASE_URL lead to the pooler (PgBouncer in transaction mode), and DATABASE_DIRECT_URL to the same database without it.".into(),
    })
}

/// Returns an error if the way through the pooler and the direct way lead to different databases.
async fn expect_one_server(pool: &ConnectionPool, direct: &PgConnectOptions) -> Result<(), StartError> {
    let sql =
        "select concat(pg_postmaster_start_time(), ' ', current_database(), ' ', to_regclass('cache_ledger')::oid)";
    let asked = async {
        let mut connection = direct.connect().await?;
        let there: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(there == sqlx::query_scalar::<_, String>(sql).fetch_one(pool).await?)
    };
    match asked.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(StartError {
            what: "DATABASE_URL and DATABASE_DIRECT_URL lead to different databases".into(),
            advice: "Let both lead to the same database of the same primary.".into(),
        }),
        Err(error) => Err(unreachable(direct, &error)),
    }
}

/// Creates a pool of a replica for loads. The replica may be down, and then the primary is queried.
pub fn replica_pool(config: &Config, url: &str) -> Result<ConnectionPool, StartError> {
    let options = parse("DATABASE_READ_URL", url)?;
    let options = options.application_name("aside").options([
        ("aside.replica", "on"),
        ("statement_timeout", "1000"),
        PLANNED_ONCE,
    ]);
    Ok(ConnectionPool::new("the replica of Postgres", pool(config, REPLICA_LIMIT), options))
}

/// Creates a pool for work of unlimited duration, such as seeding. Slow statements are not logged.
pub async fn patient_pool(config: &Config) -> Result<PgPool, StartError> {
    let options = session_options(config)?.disable_statement_logging();
    close(connect_patiently(&options).await?).await;
    Ok(pool(config, Duration::from_secs(30)).connect_lazy_with(options))
}

/// Runs the migrations that the schema does not have yet. Several instances may do so at once,
/// because a lock in Postgres lets one work while the others wait. The connection therefore has no
/// time limits.
///
/// Migrations that are unknown to this program are ignored. During a rolling deployment, and after
/// a rollback to the previous release, the schema may be newer than the program.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    let mut connection = connect_patiently(&session_options(config)?).await?;
    if is_migrated(&mut connection).await {
        close(connection).await;
        return Ok(());
    }
    let mut migrator = migrator();
    migrator.set_ignore_missing(true);
    let migrated = {
        let mut migrated = pin!(migrator.run(&mut connection));
        loop {
            match tokio::time::timeout(MIGRATION_NEWS, &mut migrated).await {
                Ok(migrated) => break migrated,
                Err(_) => tracing::warn!(
                    "still bringing the schema up to date: another session may hold sqlx's advisory lock, or a lock on a table; \
                     pg_stat_activity and pg_locks of Postgres say which"
                ),
            }
        }
    };
    migrated.map_err(|error| StartError {
        what: format!("the schema could not be brought up to date: {error}"),
        advice: "Mend what the message names; a migration that failed was rolled back, so starting again is safe."
            .into(),
    })?;
    close(connection).await;
    Ok(())
}

/// Returns whether the schema has all migrations of this program, unchanged. If it does, no lock is
/// taken and nothing is written. The service can thus start while another session migrates, and on
/// a read-only database.
pub(super) async fn is_migrated(connection: &mut PgConnection) -> bool {
    let sql = "select version, checksum from _sqlx_migrations where success";
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql).fetch_all(connection).await.unwrap_or_default();
    migrator().iter().all(|one| applied.iter().any(|(version, sum)| *version == one.version && **sum == *one.checksum))
}

/// Returns an error if the database has a fault with which no promise could be kept. The doctor
/// knows more faults, which are no reason to stop a service.
pub async fn expect_healthy(config: &Config) -> Result<(), StartError> {
    let options = session_options(config)?;
    let examined = async {
        let mut connection = options.connect().await?;
        let found = aside_cache::refusals(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(found)
    };
    let found = examined.await.map_err(|error| unreachable(&options, &error))?;
    match found.first() {
        None => Ok(()),
        Some(first) => Err(StartError {
            what: format!("{}: {}{}", first.check, first.what, if found.len() > 1 { ", and more" } else { "" }),
            advice: format!("{} `aside doctor` lists all faults.", first.advice),
        }),
    }
}

/// Returns an error if the schema does not have a migration that this program needs.
pub async fn expect_migrated(db: &ConnectionPool) -> Result<(), StartError> {
    let applied: Vec<i64> = sqlx::query_scalar("select version from _sqlx_migrations where success")
        .fetch_all(db)
        .await
        .unwrap_or_default();
    let missing = migrator().iter().filter(|migration| !applied.contains(&migration.version)).count();
    match missing {
        0 => Ok(()),
        _ => Err(StartError {
            what: format!("the schema lacks {missing} migrations and DATABASE_MIGRATE is false"),
            advice: "Run `aside migrate`, or set DATABASE_MIGRATE=true.".into(),
        }),
    }
}

/// Returns whether the connections to Postgres are protected. Each must use TLS with a verified
/// certificate or stay on this machine.
pub fn is_transport_secure(config: &Config) -> bool {
    let others = [config.database_direct_url.as_deref(), config.database_read_url.as_deref()];
    let urls = std::iter::once(config.database_url.as_str()).chain(others.into_iter().flatten());
    urls.map(|url| parse("", url)).all(|options| options.is_ok_and(|options| is_safe(&options)))
}

fn is_safe(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let local = host == "localhost" || host.starts_with('/') || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    local || options.get_socket().is_some() || matches!(options.get_ssl_mode(), PgSslMode::VerifyFull)
}

fn pool(config: &Config, acquire: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(config.database_connections)
        .acquire_timeout(acquire)
        // Properties of a session may be outdated: its address, or whether it is read-only.
        .max_lifetime(LIFETIME)
}

fn options(config: &Config) -> Result<PgConnectOptions, StartError> {
    Ok(parse("DATABASE_URL", &config.database_url)?.application_name("aside"))
}

/// The way to the database without a pooler, if there is one beside `DATABASE_URL`.
fn direct_options(config: &Config) -> Result<Option<PgConnectOptions>, StartError> {
    let direct = config.database_direct_url.as_deref();
    direct.map(|url| Ok(parse("DATABASE_DIRECT_URL", url)?.application_name("aside"))).transpose()
}

/// The way to a session of one's own.
pub(super) fn session_options(config: &Config) -> Result<PgConnectOptions, StartError> {
    direct_options(config)?.map_or_else(|| options(config), Ok)
}

/// Parses the value of a setting. sqlx leaves an IPv6 address in its brackets and would resolve it
/// as a host name.
pub(super) fn parse(setting: &str, url: &str) -> Result<PgConnectOptions, StartError> {
    let options: PgConnectOptions = url.parse().map_err(|_| StartError {
        what: format!("{setting} is not a URL of a Postgres database"),
        advice: "Give one such as postgres://user:password@host:5432/database.".into(),
    })?;
    let address = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    Ok(match address {
        Some(address) => options.host(&address),
        None => options,
    })
}

/// Connects, and waits for a server that is not reachable yet. A server that refuses the connection
/// is an error at once.
async fn connect_patiently(options: &PgConnectOptions) -> Result<PgConnection, StartError> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let connecting = tokio::time::timeout(CONNECT_LIMIT, PgConnection::connect_with(options));
        let error = match connecting.await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        if !may_pass(&error) || begun.elapsed() >= PATIENCE {
            return Err(unreachable(options, &error));
        }
        if !told {
            told = true;
            let patience = PATIENCE.as_secs();
            tracing::warn!(
                host = options.get_host(),
                port = options.get_port(),
                "waiting up to {patience} s for Postgres: {error}"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Returns whether waiting may help: no process listens yet, the server is starting, or it has no
/// free connection.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        // An invalid certificate does not become valid a second later.
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
        sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P03" | "53300")),
        _ => false,
    }
}

fn unreachable(options: &PgConnectOptions, error: &sqlx::Error) -> StartError {
    let (host, port) = (options.get_host(), options.get_port());
    let database = options.get_database().unwrap_or("(named like the user)");
    let code = error.as_database_error().and_then(|error| error.code());
    let advice = match code.as_deref() {
        Some("28P01" | "28000") => "Check user and password in DATABASE_URL.".into(),
        // Debian's PgBouncer refuses a setting that sqlx sends, and says so before there is a session.
        Some("08P01") => {
            "A pooler refuses start-up parameters. Let DATABASE_URL lead to PgBouncer in transaction mode, and \
            DATABASE_DIRECT_URL to the same database without it."
                .into()
        }
        Some("3D000") => {
            format!("Create the database (createdb -h {host} -p {port} {database}), or name another in DATABASE_URL.")
        }
        _ if matches!(error, sqlx::Error::Tls(_) | sqlx::Error::Io(_)) && !may_pass(error) => {
            "Its certificate is not right for this name: check sslmode and sslrootcert in DATABASE_URL.".into()
        }
        _ => "Start Postgres, or set DATABASE_URL to one that runs.".into(),
    };
    let why = match error {
        sqlx::Error::PoolTimedOut => format!("no answer within {} s", CONNECT_LIMIT.as_secs()),
        sqlx::Error::Database(error) => error.message().to_owned(),
        error => error.to_string(),
    };
    StartError { what: format!("Postgres at {host}:{port}, database {database}: {why}"), advice }
}

async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "a connection was not closed properly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_no_name() {
        for (url, host) in [("postgres://a@[::1]:5/b", "::1"), ("postgres://a@localhost/b", "localhost")] {
            assert_eq!(parse("DATABASE_URL", url).expect("a URL").get_host(), host, "{url}");
        }
    }
}
