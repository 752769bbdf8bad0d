//! The migrations that the program embeds: every file of `migrations`, as `build.rs` lists them.
//!
//! `sqlx::migrate!` would embed them too, but a macro of sqlx needs all of sqlx a second time, built for the compiler: DECISIONS.md.

use std::borrow::Cow;

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// Version, description, and the statements.
const EMBEDDED: &[(i64, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// All migrations, oldest first.
pub fn migrator() -> Migrator {
    let migrations = EMBEDDED.iter().map(|&(version, description, sql)| {
        // A statement that can't run in a transaction says so, as it would to sqlx's own reader of files.
        let no_transaction = sql.starts_with("-- no-transaction");
        let description = Cow::Borrowed(description);
        Migration::new(version, description, MigrationType::Simple, sql.into_sql_str(), no_transaction)
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_migrations_are_those_that_sqlx_finds() {
        let told = |migrator: &Migrator| -> Vec<_> {
            let one = |m: &Migration| {
                (
                    m.version,
                    m.description.clone(),
                    m.migration_type,
                    m.sql.as_str().to_owned(),
                    m.checksum.clone(),
                    m.no_tx,
                )
            };
            migrator.iter().map(one).collect()
        };
        assert_eq!(told(&migrator()), told(&sqlx::migrate!()));
    }
}
