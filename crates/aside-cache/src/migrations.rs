//! The cache's own tables and functions in the service's database.

use std::borrow::Cow;

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The statements of each migration, oldest first, with its number and its name. A service that
/// keeps all migrations in one folder copies them there.
pub const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "cache", include_str!("../migrations/0001_cache.sql")),
    (2, "tracking", include_str!("../migrations/0002_tracking.sql")),
];

/// The history of these migrations has a table of its own, so their numbers don't collide with the
/// service's migrations.
const HISTORY: &str = "_aside_cache_migrations";

/// Returns a migrator for [`MIGRATIONS`]. Run it before the service's own migrations, in the schema
/// that is first in the search path.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), sqlx::migrate::MigrateError> {
/// aside_cache::migrator().run(&pool).await?;
/// # Ok(())
/// # }
/// ```
pub fn migrator() -> Migrator {
    let one = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(one).collect());
    migrator.dangerous_set_table_name(HISTORY);
    migrator
}
