//! The migrations that the program embeds: every file of `migrations`, as `build.rs` lists them.
//!
//! `sqlx::migrate!` would embed them too. However, a macro of sqlx needs a second build of all of
//! sqlx for the compiler (DECISIONS.md).

use std::borrow::Cow;

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The version, the description and the statements of each migration.
const EMBEDDED: &[(i64, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// All migrations, oldest first.
pub fn migrator() -> Migrator {
    let migrations = EMBEDDED.iter().map(|&(version, description, sql)| {
        // A migration that can't run in a transaction declares this in its first line, in the
        // format of sqlx.
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
