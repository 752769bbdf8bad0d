//! The settings of Postgres.

use super::{
    check::database_url,
    parsed::{Parsed, number, switch},
};

/// The definitions of the settings before validation.
#[derive(clap::Args)]
pub struct DatabaseSettings {
    /// The Postgres database; required except by `openapi`, `healthcheck` and `token`. Secret.
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "postgres://aside@127.0.0.1:5432/aside",
        value_parser = database_url(),
        help_heading = "Postgres",
    )]
    pub(super) database_url: Option<Parsed<String>>,

    /// The same database without a pooler. Set it if DATABASE_URL leads through a pooler that
    /// shares sessions by transaction, such as PgBouncer. Migrations and the polls of the ledger
    /// need a session of their own and use this way. Secret.
    #[arg(
        long,
        env = "DATABASE_DIRECT_URL",
        value_name = "postgres://aside@127.0.0.1:5432/aside",
        value_parser = database_url(),
        help_heading = "Postgres",
    )]
    pub(super) database_direct_url: Option<Parsed<String>>,

    /// A streaming replica of that database, for loads. If it is behind, data is loaded from
    /// DATABASE_URL, so no guarantee changes. If not set, all loads use DATABASE_URL. Secret.
    #[arg(
        long,
        env = "DATABASE_READ_URL",
        value_name = "postgres://aside@127.0.0.1:5433/aside",
        value_parser = database_url(),
        help_heading = "Postgres",
    )]
    pub(super) database_read_url: Option<Parsed<String>>,

    /// Maximum number of connections to each Postgres server. Two thirds of them are for loads, two
    /// fifths for writes. Further loads and writes wait for their turn.
    #[arg(
        long,
        env = "DATABASE_CONNECTIONS",
        value_name = "COUNT",
        default_value = "10",
        value_parser = number::<u32>(2..=1000),
        help_heading = "Postgres",
    )]
    pub(super) database_connections: Parsed<u32>,

    /// Whether `serve` runs pending migrations before it starts. Several instances may do so at
    /// once.
    #[arg(
        long,
        env = "DATABASE_MIGRATE",
        value_name = "true|false",
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = switch(),
        help_heading = "Postgres",
    )]
    pub(super) database_migrate: Parsed<bool>,
}
