//! A service that caches invoices. `invoices.rs` has the types, their tags, the reads and the
//! writes. The tables and their triggers are in `migrations`.

pub mod audit;
pub mod invoices;

use aside_cache::Policy;
use sqlx::{PgPool, migrate::MigrateError};

/// The policies of all cached types.
pub fn policies() -> Vec<Policy> {
    use aside_cache::Cacheable;
    vec![invoices::Invoice::POLICY, invoices::InvoiceList::POLICY]
}

/// Runs the migrations that the database does not have yet, first those of the cache.
///
/// # Errors
/// If a migration fails, or if one that ran before was changed since.
pub async fn migrate(db: &PgPool) -> Result<(), MigrateError> {
    aside_cache::migrator().run(db).await?;
    sqlx::migrate!().run(db).await
}
