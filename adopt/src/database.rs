//! The connection pool of the service and its cache, and the schema.

use std::time::Duration;

use sqlx::{
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::cache::ConnectionPool;

/// Creates a pool for serving. Statements end before the requests that wait for them.
pub fn pool(options: PgConnectOptions) -> ConnectionPool {
    let options = options.application_name("invoices").options([
        ("statement_timeout", "10000"),
        ("lock_timeout", "10000"),
        ("idle_in_transaction_session_timeout", "10000"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(3))
        .max_lifetime(Duration::from_secs(60));
    ConnectionPool::new("Postgres", pool, options)
}

/// Runs the migrations that the schema does not have yet.
pub async fn migrate(db: &ConnectionPool) -> Result<(), MigrateError> {
    sqlx::migrate!().run(db.inner()).await
}
