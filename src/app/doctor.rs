//! `aside doctor`: what the promises rest on, checked from where the service runs. It reports each
//! fault in one line, with advice, and nothing if all is well.
//!
//! The checks of the database itself belong to the cache ([`aside_cache::examine`]). Here are those
//! of the ways to the servers, of L2, and of settings that don't fit them. The doctor changes
//! nothing but one key of its own in L2.

use std::time::{Duration, Instant, SystemTime};

use aside_cache::{Fetch, Fill, Finding, Invalidation, L2, L2Error, Severity, examine};
use bytes::Bytes;
use serde::Serialize;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::{StartError, database, l2};
use crate::config::Config;

/// The largest difference between this clock and the database's that gets no line.
const CLOCKS: Duration = Duration::from_secs(2);
/// The longest time for one answer of a server.
const LIMIT: Duration = Duration::from_secs(5);
/// The lifetime of the doctor's key in L2.
const LIFETIME: Duration = Duration::from_secs(10);
/// Connections of an instance outside of its pool: the poller and its checks, the purger.
const BESIDE_THE_POOL: i64 = 3;

/// One line of the doctor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The name of the check.
    pub check: String,
    /// Whether a promise is broken. If not, it holds with less certainty.
    pub breaks: bool,
    pub what: String,
    pub advice: String,
}

impl Line {
    fn new(check: &str, severity: Severity, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), breaks: severity != Severity::Weakens, what: what.into(), advice: advice.into() }
    }
}

impl From<Finding> for Line {
    fn from(finding: Finding) -> Self {
        Self::new(finding.check, finding.severity, finding.what, finding.advice)
    }
}

/// Examines everything that these settings name.
pub async fn diagnose(config: &Config) -> Vec<Line> {
    let mut lines = postgres(config).await;
    lines.extend(replica(config).await);
    lines.extend(shared_tier(config).await);
    lines
}

async fn postgres(config: &Config) -> Vec<Line> {
    match examine_primary(config).await {
        Ok(lines) => lines,
        Err(StartError { what, advice }) => vec![Line::new("postgres", Severity::Breaks, what, advice)],
    }
}

async fn examine_primary(config: &Config) -> Result<Vec<Line>, StartError> {
    // This also checks the way through a pooler.
    database::serving_pool(config).await?.close().await;
    let options = database::session_options(config)?;
    let failed = |error: sqlx::Error| StartError {
        what: format!("the database could not be examined: {error}"),
        advice: "Ask again, and look into the log of Postgres.".into(),
    };
    let mut connection = options.connect().await.map_err(failed)?;
    let mut lines: Vec<Line> = match database::is_migrated(&mut connection).await {
        true => Vec::new(),
        false => vec![Line::new(
            "migrations",
            Severity::Breaks,
            "the schema lacks migrations, or they were changed",
            "Run `aside migrate`.",
        )],
    };
    lines.extend(examine(&mut connection).await.map_err(failed)?.into_iter().map(Line::from));
    lines.extend(distance(config, &mut connection).await.map_err(failed)?);
    lines.extend(room(config, &mut connection).await.map_err(failed)?);
    let _ = connection.close().await;
    Ok(lines)
}

/// The clock of the database, and the time of a round trip to it.
async fn distance(config: &Config, connection: &mut PgConnection) -> Result<Vec<Line>, sqlx::Error> {
    let mut fastest = (Duration::MAX, 0.0);
    for _ in 0..5 {
        let (sent, now) = (Instant::now(), SystemTime::now());
        let there: f64 = sqlx::query_scalar("select extract(epoch from clock_timestamp())::float8")
            .fetch_one(&mut *connection)
            .await?;
        let took = sent.elapsed();
        let here = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + took / 2;
        if took < fastest.0 {
            fastest = (took, there - here.as_secs_f64());
        }
    }
    Ok(distance_lines(config.cache_max_staleness, fastest.0, fastest.1))
}

fn distance_lines(max_staleness: Duration, round_trip: Duration, ahead: f64) -> Vec<Line> {
    let mut lines = Vec::new();
    if ahead.abs() > CLOCKS.as_secs_f64() {
        let what = format!("the clock of Postgres differs by {ahead:.1} s from the one of this machine");
        lines.push(Line::new("clock", Severity::Weakens, what, "Let both follow the same source of time (NTP)."));
    }
    // A poll must be sent and answered several times within D.
    if round_trip > max_staleness / 5 {
        let what = format!(
            "a round trip to Postgres takes {} ms, and D is {} ms",
            round_trip.as_millis(),
            max_staleness.as_millis()
        );
        lines.push(Line::new(
            "distance",
            Severity::Weakens,
            what,
            "Raise CACHE_MAX_STALENESS_MS on all instances, or move the service closer.",
        ));
    }
    lines
}

/// Whether the connections of this instance fit into the server.
async fn room(config: &Config, connection: &mut PgConnection) -> Result<Vec<Line>, sqlx::Error> {
    let sql =
        "select current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint";
    let most: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
    let wanted = i64::from(config.database_connections) + BESIDE_THE_POOL;
    // Behind a pooler, only the connections beside the pool are sessions.
    let wanted = if config.database_direct_url.is_some() { BESIDE_THE_POOL } else { wanted };
    Ok(if wanted <= most {
        Vec::new()
    } else {
        let what = format!("an instance wants {wanted} connections, and Postgres allows {most}");
        vec![Line::new("connections", Severity::Weakens, what, "Lower DATABASE_CONNECTIONS, or raise max_connections.")]
    })
}

async fn replica(config: &Config) -> Vec<Line> {
    let Some(url) = &config.database_read_url else { return Vec::new() };
    let asked = async {
        let mut connection =
            database::parse("DATABASE_READ_URL", url)?.connect().await.map_err(|error| StartError {
                what: format!("the replica can't be reached: {error}"),
                advice: "Bring it back: loads burden the primary meanwhile.".into(),
            })?;
        let sql = "select pg_is_in_recovery(), current_setting('hot_standby_feedback') = 'on'";
        let row = sqlx::raw_sql(sql).fetch_one(&mut connection).await;
        row.and_then(|row| Ok((row.try_get::<bool, _>(0)?, row.try_get::<bool, _>(1)?))).map_err(|error| StartError {
            what: format!("the replica could not be examined: {error}"),
            advice: "Look into its log.".into(),
        })
    };
    match asked.await {
        Ok((true, true)) => Vec::new(),
        Ok((true, false)) => vec![Line::new(
            "replica-feedback",
            Severity::Weakens,
            "hot_standby_feedback is off on the replica",
            "Set hot_standby_feedback = on there: the replay otherwise cancels loads.",
        )],
        Ok((false, _)) => vec![Line::new(
            "replica-promoted",
            Severity::Weakens,
            "the replica is a primary, so no load uses it",
            "Let DATABASE_READ_URL lead to a standby of the primary, or remove it.",
        )],
        Err(StartError { what, advice }) => vec![Line::new("replica", Severity::Weakens, what, advice)],
    }
}

async fn shared_tier(config: &Config) -> Vec<Line> {
    let l2 = match l2::l2(config) {
        Ok(Some(l2)) => l2,
        Ok(None) => return Vec::new(),
        Err(StartError { what, advice }) => return vec![Line::new("l2", Severity::Weakens, what, advice)],
    };
    let key = format!("{}:doctor", config.cache_namespace);
    let mut lines = Vec::new();
    if let Err(error) = within(l2.ping()).await {
        let advice = "Bring it back, or check address, user and password: loads burden Postgres meanwhile.";
        return vec![Line::new("l2", Severity::Weakens, format!("{} does not answer: {error}", l2.name()), advice)];
    }
    if let Err(error) = within(use_of(l2.as_ref(), &key)).await {
        let advice = "Give the user the commands, keys and channels of docs/topologies.md, and let the URL lead to a primary that accepts writes.";
        lines.push(Line::new(
            "l2-rights",
            Severity::Weakens,
            format!("{} refuses what the cache needs: {error}", l2.name()),
            advice,
        ));
    }
    match within(l2.memory()).await {
        Ok(nodes) => {
            for node in nodes.iter().filter(|node| node.limit_bytes.is_some() && !node.evicts()) {
                let what = format!("{} refuses writes when its memory is full (noeviction)", node.address);
                lines.push(Line::new(
                    "l2-eviction",
                    Severity::Weakens,
                    what,
                    "Set maxmemory-policy to allkeys-lfu or allkeys-lru.",
                ));
            }
            for node in nodes.iter().filter(|node| node.limit_bytes.is_none()) {
                let what = format!("{} has no limit of memory", node.address);
                lines.push(Line::new(
                    "l2-memory",
                    Severity::Weakens,
                    what,
                    "Set maxmemory below the memory of its machine.",
                ));
            }
        }
        Err(error) => {
            let what = format!("{} does not report its memory: {error}", l2.name());
            lines.push(Line::new("l2-info", Severity::Weakens, what, "Give the user the command INFO."));
        }
    }
    lines
}

/// Uses the store as the cache does.
async fn use_of(l2: &dyn L2, key: &str) -> Result<(), L2Error> {
    l2.fetch(&[Fetch { key: key.into(), min_version: 0 }], "doctor", LIFETIME).await?;
    let value = Some((1, Bytes::from_static(b"well")));
    l2.fill(&[Fill { key: key.into(), value, lifetime: LIFETIME }], "doctor").await?;
    l2.invalidate(&[Invalidation { key: key.into(), version: 2 }]).await?;
    l2.hint(&format!("{key}:hints")).await
}

async fn within<T>(asked: impl Future<Output = Result<T, L2Error>>) -> Result<T, L2Error> {
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(L2Error("no answer in time".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_and_long_ways_get_a_line() {
        let told = |round_trip, ahead| {
            let lines = distance_lines(Duration::from_millis(500), Duration::from_millis(round_trip), ahead);
            lines.into_iter().map(|line| line.check).collect::<Vec<_>>()
        };
        assert_eq!(told(1, 0.5), [""; 0]);
        assert_eq!(told(1, -3.0), ["clock"]);
        assert_eq!(told(1, 86_400.0), ["clock"]);
        assert_eq!(told(150, 0.0), ["distance"]);
    }
}
