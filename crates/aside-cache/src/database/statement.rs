//! The statements of the pool, as it repeats them, and how sqlx executes its queries on the pool.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    AssertSqlSafe, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlSafeStr, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::database::pool::ConnectionPool;

/// The known effects of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It only reads.
    Read,
    /// It changes data, in a transaction that ends with it.
    Write,
    Unknown,
}

/// A statement that can be executed more than once.
#[derive(Clone)]
pub(crate) struct Statement {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    is_persistent: bool,
    effect: Effect,
    /// Set when there is a connection for the statement.
    is_sent: Option<Arc<AtomicBool>>,
}

impl Statement {
    /// Takes the statement and the arguments of a query. A statement whose first word is `select`
    /// only reads.
    pub(crate) fn new<'q>(mut query: impl Execute<'q, Postgres>) -> Result<Self, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let (is_persistent, sql) = (query.persistent(), query.sql());
        let is_select = sql.as_str().get(..7).is_some_and(|word| word.eq_ignore_ascii_case("select "));
        let effect = if is_select { Effect::Read } else { Effect::Unknown };
        Ok(Self { sql, arguments, is_persistent, effect, is_sent: None })
    }

    /// A statement of the cache that changes data. `is_sent` is set when it is sent.
    pub(crate) fn write(sql: String, arguments: PgArguments, is_sent: Arc<AtomicBool>) -> Self {
        let sql = AssertSqlSafe(sql).into_sql_str();
        Self { sql, arguments: Some(arguments), is_persistent: true, effect: Effect::Write, is_sent: Some(is_sent) }
    }

    /// Notes that the statement is sent now.
    pub(super) fn note_sent(&self) {
        if let Some(is_sent) = &self.is_sent {
            is_sent.store(true, Ordering::Release);
        }
    }

    /// The statement without a name in the session.
    pub(super) fn unnamed(mut self) -> Self {
        self.is_persistent = false;
        self
    }

    /// The text without a semicolon at its end, so that it can be a part of another statement.
    pub(crate) fn text(&self) -> &str {
        self.sql.as_str().trim_end().trim_end_matches(';')
    }

    /// The arguments.
    pub(crate) fn arguments(&self) -> PgArguments {
        self.arguments.clone().unwrap_or_default()
    }

    /// Whether a second execution is harmless.
    pub(super) fn is_repeatable(&self) -> bool {
        self.effect == Effect::Read
    }

    /// Whether the connection is outside of any transaction after it.
    pub(super) fn leaves_no_transaction(&self) -> bool {
        self.effect != Effect::Unknown
    }
}

impl Execute<'_, Postgres> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

/// Executes sqlx's queries, each on its own connection.
impl<'c> Executor<'c> for &ConnectionPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        // All rows are read before one is passed on, because the statement may have to be executed
        // again.
        let answer = async move {
            let all = async |db: &mut PgConnection, statement: Statement| {
                db.fetch_many(statement).try_collect::<Vec<_>>().await
            };
            let answer = pool.repeat(Statement::new(query)?, all).await?;
            Ok(stream::iter(answer.into_iter().map(Ok)))
        };
        answer.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let one = async |db: &mut PgConnection, statement: Statement| db.fetch_optional(statement).await;
        async move { pool.repeat(Statement::new(query)?, one).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.describe(sql).await }.boxed()
    }
}
