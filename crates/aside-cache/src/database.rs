//! The way to Postgres: pools, connections and errors.

pub(crate) mod database_errors;
pub(crate) mod pool;
mod pooler;
pub(crate) mod read_at;
pub(crate) mod reusable;
pub(crate) mod statement;
