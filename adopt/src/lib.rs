//! A service that caches invoices.
//!
//! `invoices` has everything about them: the type with its tags, the reads and writes, and the
//! routes. The tables are in `migrations`. The other modules are the same for all types.

pub mod audit;
pub mod http;
pub mod invoices;
pub mod refusal;
pub mod session;

use aside_cache::{Cacheable, Listed, Policy};
use sqlx::{PgPool, migrate::MigrateError};

use invoices::Invoice;

/// The policies of all cached types.
pub fn policies() -> Vec<Policy> {
    vec![Invoice::POLICY, Invoice::LIST]
}

/// Runs the migrations that the database does not have yet, first those of the cache.
///
/// # Errors
/// If a migration fails, or if one that ran before was changed since.
pub async fn migrate(db: &PgPool) -> Result<(), MigrateError> {
    aside_cache::migrator().run(db).await?;
    sqlx::migrate!().run(db).await
}
