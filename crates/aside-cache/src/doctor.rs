//! The doctor: it asks Postgres for everything on which the promises rest, and reports each fault
//! in one line, with advice.
//!
//! Each check is one query that returns a row for each fault ([`checks`]). A check that can't be
//! asked is a fault too. The checks only read, and only tables that every role may read. They don't cover
//! Redis, clocks and settings of the service, which a service checks itself.

mod checks;

use std::fmt;

use sqlx::{Connection, PgConnection};

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A promise can't be kept, and nothing makes up for it. A service must not start
    /// ([`refusals`]).
    Refuses,
    /// A promise is broken as long as the fault exists, or when the machine fails.
    Breaks,
    /// A promise holds with less certainty, or the cache works badly.
    Weakens,
}

/// A fault of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check, which never changes.
    pub check: &'static str,
    /// How bad the fault is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.check, self.what, self.advice)
    }
}

/// One check.
struct Check {
    name: &'static str,
    severity: Severity,
    /// A query that returns what is wrong, as a text for each fault.
    sql: &'static str,
    advice: &'static str,
}

/// Examines the database of this connection. It should be the connection of the service's role,
/// with the settings that the role and the database give to a session.
///
/// # Errors
/// If the connection fails. A check that fails alone is a finding.
///
/// ```no_run
/// # async fn example(mut connection: sqlx::PgConnection) -> Result<(), sqlx::Error> {
/// for finding in aside_cache::examine(&mut connection).await? {
///     println!("{finding}");
/// }
/// # Ok(())
/// # }
/// ```
pub async fn examine(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    ask(connection, checks::CHECKS.iter()).await
}

/// The faults of the database with which a service must not start. It is a part of [`examine`] that
/// takes some milliseconds.
///
/// # Errors
/// As [`examine`].
pub async fn refusals(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    ask(connection, checks::CHECKS.iter().filter(|check| check.severity == Severity::Refuses)).await
}

async fn ask(
    connection: &mut PgConnection,
    checks: impl Iterator<Item = &'static Check>,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    for check in checks {
        // In a transaction of its own, a failed check does not disturb the next one.
        let mut transaction = connection.begin().await?;
        let answer = sqlx::query_scalar::<_, String>(check.sql).fetch_all(&mut *transaction).await;
        transaction.rollback().await?;
        let finding = |what| Finding { check: check.name, severity: check.severity, what, advice: check.advice };
        match answer {
            Ok(faults) => findings.extend(faults.into_iter().map(finding)),
            Err(sqlx::Error::Database(error)) => {
                findings.push(finding(format!("it can't be checked: {}", error.message())));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}
