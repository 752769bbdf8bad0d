//! Classifies errors of the database, because sqlx has one type for all of them. There was no
//! session with Postgres, no capacity in time, or a conflict with another transaction. Every other
//! error is a defect of the statement or of its caller.

use std::{fmt, io};

use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Whether an error says that Postgres did not answer, for a temporary reason. Either no session
/// could be opened, with any SQLSTATE of the refusal, or the session ended. Or the server is in a
/// state in which it can't execute the statement. Every other error of the database is a defect of
/// the caller.
///
/// ```
/// use aside_cache::is_unavailable;
///
/// assert!(is_unavailable(&sqlx::Error::PoolClosed));
/// assert!(!is_unavailable(&sqlx::Error::RowNotFound));
/// ```
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Configuration(_)
        // The error of a connection that ends in the middle of a message, for example because
        // Postgres crashes during the start-up of the session.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => ends_the_session(error.as_ref()) || error.code().is_some_and(|code| passes(&code)),
        _ => false,
    }
}

/// Whether an error says that there was no capacity in time. No connection of the pool became free,
/// or other transactions held a lock, or the database, for too long.
///
/// ```
/// use aside_cache::is_busy;
///
/// assert!(is_busy(&sqlx::Error::PoolTimedOut));
/// ```
pub fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: [&str; 2] = ["55P03", "57014"];
    match error {
        sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| BUSY.contains(&code.as_ref())),
        _ => false,
    }
}

/// Whether an error says that other transactions interfered, so that the same work may succeed when
/// it is repeated. The causes are a deadlock, a serialization failure, a statement that must be
/// prepared again, or a statement's name that another client of a pooler has left in the session.
pub fn is_conflict(error: &sqlx::Error) -> bool {
    const CONFLICTS: [&str; 3] = ["40P01", "40001", "42P05"];
    let code = || error.as_database_error().and_then(|error| error.code());
    is_stale_statement(error) || code().is_some_and(|code| CONFLICTS.contains(&code.as_ref()))
}

/// Whether an error ends the session. An error during the start-up of a session is always fatal. An
/// error of a statement is fatal only if the session ends with it.
fn ends_the_session(error: &dyn sqlx::error::DatabaseError) -> bool {
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
}

/// Whether an error says that the session is over: its connection was cut, or Postgres ended it.
pub(crate) fn is_cut(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => ends_the_session(error.as_ref()),
        _ => false,
    }
}

/// Whether an error says that the database accepts no writes at the moment.
pub(crate) fn is_read_only(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("25006")
}

/// Whether a SQLSTATE describes a temporary state of the server: connections (08), rollbacks by
/// conflict (40) and resources (53). Others are an intervention of an operator or a deadline (57),
/// and a primary that became a standby (25006).
fn passes(code: &str) -> bool {
    code == "25006" || ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
}

/// Whether a prepared statement can't be used any more. The types of its columns have changed
/// ("cached plan must not change result type"), or the session has discarded it. The SQLSTATE 0A000
/// alone has many other causes, and the message is translated, so the routine decides.
pub(crate) fn is_stale_statement(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| match error.code() {
        "0A000" => error.routine() == Some("RevalidateCachedQuery"),
        code => code == "26000",
    })
}

/// The reason why there was no session.
#[derive(Clone, Debug)]
pub(crate) struct NoSession {
    kind: io::ErrorKind,
    reason: String,
    pub(crate) advice: &'static str,
}

impl NoSession {
    pub(crate) fn new(error: &sqlx::Error) -> Self {
        let kind = if let sqlx::Error::Io(error) = error { error.kind() } else { io::ErrorKind::NotConnected };
        let code = error.as_database_error().and_then(|error| error.code());
        let reason = match (error, code.as_deref()) {
            (sqlx::Error::Database(error), Some(code)) => format!("{} (SQLSTATE {code})", error.message()),
            _ => error.to_string(),
        };
        Self { kind, reason, advice: advice(error) }
    }

    pub(crate) fn late() -> Self {
        let (kind, reason) = (io::ErrorKind::TimedOut, "it does not answer in time".into());
        Self { kind, reason, advice: advice(&sqlx::Error::PoolTimedOut) }
    }
}

impl fmt::Display for NoSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for NoSession {}

impl From<NoSession> for sqlx::Error {
    fn from(reason: NoSession) -> Self {
        Self::Io(io::Error::new(reason.kind, reason))
    }
}

/// The advice for an operator when connecting fails.
fn advice(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some("28P01" | "28000") => {
            "check user and password in the connection URL, whether the role may log in (rolcanlogin), and pg_hba.conf"
        }
        Some("3D000") => "check the name of the database in the connection URL",
        Some("42501") => "check whether the role has the right CONNECT on the database",
        Some("55000") => "check whether the database accepts connections (datallowconn)",
        Some("53300") => {
            "check max_connections of Postgres, the connection limits of role and database, and the pool sizes of all clients"
        }
        Some("57P03") => "Postgres is starting or stopping: check its log if that lasts",
        Some("08P01") => {
            "a pooler refuses start-up parameters: name a direct way to the database too (docs/topologies.md)"
        }
        _ if matches!(error, sqlx::Error::Tls(_)) => {
            "check sslmode and sslrootcert in the connection URL, and the certificate"
        }
        _ => "check whether Postgres runs, and host and port in the connection URL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_that_pass_are_waited_for() {
        for (code, expected) in
            [("57P01", true), ("40001", true), ("53300", true), ("25006", true), ("23505", false), ("42601", false)]
        {
            assert_eq!(passes(code), expected, "{code}");
        }
    }
}
