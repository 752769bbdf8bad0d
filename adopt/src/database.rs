//! The pool that the service and its cache work with, and the schema.

use std::time::Duration;

use sqlx::{
    PgPool,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::cache::is_idle;

/// A pool for serving: statements end before the requests that wait for them.
pub fn pool(options: PgConnectOptions) -> PgPool {
    let options = options.application_name("invoices").options([
        ("statement_timeout", "10000"),
        ("lock_timeout", "10000"),
        ("idle_in_transaction_session_timeout", "10000"),
    ]);
    PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(3))
        .max_lifetime(Duration::from_secs(60))
        // Whose use was cut off may be inside of a transaction that nobody ends.
        .after_release(|connection, _| {
            Box::pin(async move {
                let answer = tokio::time::timeout(Duration::from_secs(2), is_idle(connection)).await;
                answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            })
        })
        .connect_lazy_with(options)
}

/// Brings the schema up to date.
pub async fn migrate(db: &PgPool) -> Result<(), MigrateError> {
    sqlx::migrate!().run(db).await
}
