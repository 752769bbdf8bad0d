//! The way to Postgres through a pooler that shares sessions by transaction, such as PgBouncer in
//! transaction mode.
//!
//! Two statements of one connection may then run in two sessions, unless they are in one
//! transaction. Each statement of the pool is therefore a transaction, which also brings the
//! settings that a session has otherwise. No named statement remains in a session after its
//! transaction, because the next client of that session may use the same name. Work that needs a
//! session of its own takes the direct way.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction, postgres::PgConnectOptions};

/// The way through a pooler, and the direct way beside it.
pub(super) struct Pooler {
    /// How to reach the same database without the pooler.
    pub(super) direct: PgConnectOptions,
    /// The statements that apply the settings of a session to one transaction.
    settings: String,
}

impl Pooler {
    /// `settings` are names and values of settings, which the caller knows to be harmless.
    pub(super) fn new(direct: PgConnectOptions, settings: &[(&str, &str)]) -> Self {
        let one = |(name, value): &(&str, &str)| format!("; set local {name} = '{}'", value.replace('\'', "''"));
        Self { direct, settings: settings.iter().map(one).collect() }
    }

    /// The statement that begins a transaction with the settings of this pool. It takes one round
    /// trip.
    pub(super) fn begin(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(format!("{statement}{}", self.settings))
    }

    /// Runs a statement in a transaction of its own.
    pub(super) async fn run<R>(
        &self,
        connection: &mut PgConnection,
        run: impl AsyncFnOnce(&mut PgConnection) -> Result<R, sqlx::Error>,
    ) -> Result<R, sqlx::Error> {
        let mut transaction = connection.begin_with(self.begin("begin isolation level read committed")).await?;
        let answer = run(&mut transaction).await?;
        transaction.commit().await?;
        Ok(answer)
    }
}

/// Closes the named statements of a transaction that ends, in the session that has them.
pub(super) async fn close_statements(transaction: &mut Transaction<'static, Postgres>) -> Result<(), sqlx::Error> {
    transaction.clear_cached_statements().await
}

#[cfg(test)]
mod tests {
    use sqlx::SqlSafeStr;

    use super::*;

    #[test]
    fn a_transaction_begins_with_the_settings_of_a_session() {
        let pooler = Pooler::new(PgConnectOptions::new(), &[("statement_timeout", "500"), ("search_path", "it's")]);
        assert_eq!(
            pooler.begin("begin").into_sql_str().as_str(),
            "begin; set local statement_timeout = '500'; set local search_path = 'it''s'"
        );
    }
}
