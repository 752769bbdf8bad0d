//! Connections to Postgres: sqlx's pool, with a diagnosis of failed connections and a retry of
//! stale statements.
//!
//! Errors distinguish a missing session with Postgres from a failed statement ([`is_unavailable`]),
//! even if sqlx only reports a timeout. The reason is logged once, with advice and without the
//! connection URL. A change of a column's type makes a prepared statement invalid, and the pool
//! then prepares it again. The cache and the requests of its service use this pool. The connection
//! that follows the ledger is made here too, but stays outside of the pool.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use tokio::sync::Mutex;

use crate::{
    consistency::ledger::is_outside_transaction,
    database::database_errors::{NoSession, is_cut, is_stale_statement, is_unavailable},
    database::pooler::{Pooler, close_statements},
    database::reusable::{Checkout, ReusableConnections},
    database::statement::Statement,
};

/// A connection that was idle for this long is pinged before it is used, which takes a round trip.
const IDLE: Duration = Duration::from_secs(1);
/// A connection is closed if it doesn't answer within this time after its release. It is longer
/// than an abandoned statement can run: Postgres ends such statements earlier.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);
/// Longest time for the connection that finds out why the pool had none.
const DIAGNOSIS_LIMIT: Duration = Duration::from_secs(1);
/// How long the result of a diagnosis is used for other callers that timed out.
const DIAGNOSIS_LIFETIME: Duration = Duration::from_secs(1);

/// A pool of connections to Postgres. Clones are cheap and share the pool.
///
/// A select that runs on the pool itself is repeated if its connection was cut. A select with side
/// effects therefore needs a connection of its own from [`ConnectionPool::acquire`].
#[derive(Clone)]
pub struct ConnectionPool(Arc<Inner>);

struct Inner {
    pool: PgPool,
    /// Connections that can be used again without a return to `pool`. `None`: each connection is
    /// returned.
    reusable: Option<ReusableConnections>,
    /// The pooler on the way, if it shares sessions among its clients.
    pooler: Option<Pooler>,
    /// The name of the server in the log.
    server: &'static str,
    /// Whether the last attempt to connect failed.
    is_down: Arc<AtomicBool>,
    /// Whether every new connection clears `is_down`. If not, every acquired connection does.
    sees_connections: bool,
    /// The time and result of the last diagnosis of a timeout. The result `None` means that all
    /// connections were in use.
    diagnosis: Mutex<Option<(Instant, Option<NoSession>)>>,
}

impl From<PgPool> for ConnectionPool {
    /// Wraps a pool that was made elsewhere. It should have [`is_outside_transaction`] as its
    /// `after_release`.
    fn from(pool: PgPool) -> Self {
        let (server, is_down, sees_connections) = ("Postgres", Arc::default(), false);
        Self(Arc::new(Inner {
            pool,
            reusable: None,
            pooler: None,
            server,
            is_down,
            sees_connections,
            diagnosis: Mutex::default(),
        }))
    }
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.pool.fmt(f)
    }
}

impl ConnectionPool {
    /// A pool of connections to `server`, which is its name in logs. It connects when a connection
    /// is needed.
    pub fn new(server: &'static str, pool: PgPoolOptions, connection: PgConnectOptions) -> Self {
        Self::make(server, pool, connection, None)
    }

    /// A pool of connections to `server` through a pooler that shares sessions by transaction, such
    /// as PgBouncer in transaction mode. `direct` leads to the same database without the pooler.
    /// The ledger is polled there, because it needs a session. Each transaction begins with
    /// `settings`, which are those that a session has otherwise.
    ///
    /// Each statement of the pool takes four round trips instead of one. Statements on a connection
    /// from [`ConnectionPool::acquire`] need a transaction.
    pub fn through_pooler(
        server: &'static str,
        pool: PgPoolOptions,
        connection: PgConnectOptions,
        direct: PgConnectOptions,
        settings: &[(&str, &str)],
    ) -> Self {
        // Poolers refuse start-up parameters that they don't know.
        Self::make(server, pool, connection.extra_float_digits(None), Some(Pooler::new(direct, settings)))
    }

    fn make(server: &'static str, pool: PgPoolOptions, connection: PgConnectOptions, pooler: Option<Pooler>) -> Self {
        let is_down = Arc::new(AtomicBool::new(false));
        let connected = Arc::clone(&is_down);
        let reusable = ReusableConnections::default();
        let known = reusable.clone();
        let pool = pool
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let is_given_up = known.is_given_up(meta.age);
                Box::pin(async move {
                    if is_given_up {
                        return Ok(false);
                    }
                    if meta.idle_for >= IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            // An abandoned connection may be inside of a transaction that no task ends. It may also
            // wait for an answer that never arrives, and then its place in the pool would be lost.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let answer = tokio::time::timeout(RELEASE_LIMIT, is_outside_transaction(connection)).await;
                    answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))
                })
            })
            .after_connect(move |_, _| {
                note_connection(&connected, server);
                Box::pin(std::future::ready(Ok(())))
            })
            .connect_lazy_with(connection);
        let reusable = Some(reusable);
        Self(Arc::new(Inner {
            pool,
            reusable,
            pooler,
            server,
            is_down,
            sees_connections: true,
            diagnosis: Mutex::default(),
        }))
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// `PoolTimedOut` if all connections are in use for too long. Otherwise an error that
    /// [`is_unavailable`] recognizes.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let _waiting = self.0.reusable.as_ref().map(ReusableConnections::wait);
        self.explain(self.0.pool.acquire().await).await
    }

    /// Begins a transaction with this statement.
    ///
    /// # Errors
    /// As [`ConnectionPool::acquire`].
    pub async fn begin_with(&self, statement: &'static str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let _waiting = self.0.reusable.as_ref().map(ReusableConnections::wait);
        let Some(pooler) = &self.0.pooler else { return self.explain(self.0.pool.begin_with(statement).await).await };
        let mut transaction = self.explain(self.0.pool.begin_with(pooler.begin(statement)).await).await?;
        // A transaction that was dropped has left names in the cache of this connection. Another
        // session has, or had, their statements.
        close_statements(&mut transaction).await?;
        Ok(transaction)
    }

    /// Prepares a transaction for its end. Behind a pooler, its named statements must not remain in
    /// a session that the next client gets.
    pub(crate) async fn before_end(&self, transaction: &mut Transaction<'static, Postgres>) -> Result<(), sqlx::Error> {
        match self.0.pooler {
            Some(_) => close_statements(transaction).await,
            None => Ok(()),
        }
    }

    /// Prepares a transaction that follows a conflict. Its connection, or behind a pooler its
    /// session, may have statements that can't be used.
    pub(crate) async fn after_conflict(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
    ) -> Result<(), sqlx::Error> {
        transaction.clear_cached_statements().await?;
        if self.0.pooler.is_some() {
            // A write that was cancelled may have left names in this session.
            sqlx::raw_sql("deallocate all").execute(&mut **transaction).await?;
        }
        Ok(())
    }

    /// Whether the last attempt to connect failed.
    pub fn is_down(&self) -> bool {
        self.0.is_down.load(Ordering::Acquire)
    }

    /// Gives up the connections that exist now. They may lead to a server that the address of the
    /// database does not lead to any more. A pool of sqlx that was wrapped keeps its connections
    /// until their lifetime ends.
    pub(crate) fn give_up_connections(&self) {
        if let Some(reusable) = &self.0.reusable {
            reusable.give_up();
        }
    }

    /// Closes all connections as soon as they are not in use any more.
    pub async fn close(&self) {
        if let Some(reusable) = &self.0.reusable {
            reusable.close();
        }
        self.0.pool.close().await;
    }

    /// The pool of sqlx inside, for metrics.
    pub fn inner(&self) -> &PgPool {
        &self.0.pool
    }

    /// Makes an error state why no connection was available.
    async fn explain<T>(&self, had: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match had {
            Ok(had) => {
                if !self.0.sees_connections {
                    self.connected();
                }
                Ok(had)
            }
            // sqlx retries while Postgres refuses connections, starts or has no free connection. It
            // then returns this error, as if all connections of the pool were in use.
            Err(sqlx::Error::PoolTimedOut) => match self.diagnose().await {
                Some(reason) => Err(self.tell(reason).into()),
                None => Err(sqlx::Error::PoolTimedOut),
            },
            Err(error) => {
                if is_unavailable(&error) && !matches!(error, sqlx::Error::PoolClosed) {
                    self.tell(NoSession::new(&error));
                }
                Err(error)
            }
        }
    }

    /// Finds out why no connection was available, by one attempt for all callers. `None` if
    /// connecting works.
    async fn diagnose(&self) -> Option<NoSession> {
        let mut known = self.0.diagnosis.lock().await;
        if let Some((made, diagnosis)) = &*known
            && made.elapsed() < DIAGNOSIS_LIFETIME
        {
            return diagnosis.clone();
        }
        let options = self.0.pool.connect_options();
        let diagnosis = match tokio::time::timeout(DIAGNOSIS_LIMIT, options.connect()).await {
            Ok(Ok(connection)) => {
                self.connected();
                // Closing may take a while, and no caller needs to wait for it.
                tokio::spawn(connection.close());
                None
            }
            Ok(Err(error)) => Some(NoSession::new(&error)),
            Err(_) => Some(NoSession::late()),
        };
        *known = Some((Instant::now(), diagnosis.clone()));
        diagnosis
    }

    fn connected(&self) {
        note_connection(&self.0.is_down, self.0.server);
    }

    /// Logs once why connections fail, until one succeeds again.
    fn tell(&self, reason: NoSession) -> NoSession {
        if !self.0.is_down.swap(true, Ordering::AcqRel) {
            let (server, advice) = (self.0.server, reason.advice);
            tracing::warn!(server, %reason, advice, "failed to connect to Postgres; retrying");
        }
        reason
    }

    /// A connection outside of the pool, with its own settings, for one caller.
    ///
    /// # Errors
    /// As [`ConnectionPool::acquire`].
    pub(crate) async fn connect(&self, settings: &[(&str, &str)]) -> Result<PgConnection, sqlx::Error> {
        let options = match &self.0.pooler {
            Some(pooler) => pooler.direct.clone(),
            None => (*self.0.pool.connect_options()).clone(),
        };
        let connected = options.options(settings.iter().copied()).connect().await;
        if connected.is_ok() {
            self.connected();
        }
        self.explain(connected).await
    }

    /// Executes a statement on a connection of the pool. It is executed once more if it must be
    /// prepared again. A select is also repeated if its connection was cut, because a second read
    /// is harmless.
    pub(super) async fn repeat<R>(
        &self,
        statement: Statement,
        run: impl AsyncFn(&mut PgConnection, Statement) -> Result<R, sqlx::Error>,
    ) -> Result<R, sqlx::Error> {
        let mut checkout = self.check_out().await?;
        let run = async |connection: &mut PgConnection, statement: Statement| match &self.0.pooler {
            Some(pooler) => pooler.run(connection, async |db| run(db, statement.unnamed()).await).await,
            None => run(connection, statement).await,
        };
        let mut result = run(&mut checkout.connection, statement.clone()).await;
        match &result {
            Err(error) if is_stale_statement(error) => {
                checkout.connection.clear_cached_statements().await?;
                result = run(&mut checkout.connection, statement.clone()).await;
            }
            Err(error) if is_cut(error) && statement.is_repeatable() => {
                // The place in the pool must become free before the next connection is acquired.
                checkout.connection.close_on_drop();
                drop(checkout);
                checkout = Checkout::new(self.acquire_alive().await?);
                result = run(&mut checkout.connection, statement.clone()).await;
            }
            _ => {}
        }
        if let (Ok(_), Some(reusable)) = (&result, &self.0.reusable)
            && statement.leaves_no_transaction()
        {
            reusable.put_back(checkout);
        }
        result
    }

    /// The first row of a statement.
    pub(crate) async fn fetch_row(&self, statement: Statement) -> Result<PgRow, sqlx::Error> {
        let first = async |db: &mut PgConnection, statement: Statement| {
            statement.note_sent();
            db.fetch_one(statement).await
        };
        self.repeat(statement, first).await
    }

    /// A reusable connection, or one of the pool.
    async fn check_out(&self) -> Result<Checkout, sqlx::Error> {
        let Some(reusable) = &self.0.reusable else { return self.acquire().await.map(Checkout::new) };
        match reusable.take() {
            Ok(checkout) => Ok(checkout),
            Err(_waiting) => self.explain(self.0.pool.acquire().await).await.map(Checkout::new),
        }
    }

    /// A connection of the pool that has just answered a ping. Those that fail are closed.
    async fn acquire_alive(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        loop {
            let mut connection = self.acquire().await?;
            match connection.ping().await {
                Ok(()) => return Ok(connection),
                Err(error) => {
                    tracing::debug!(%error, "a connection was cut");
                    connection.close_on_drop();
                }
            }
        }
    }
}

/// Notes that connecting works.
fn note_connection(is_down: &AtomicBool, server: &str) {
    if is_down.swap(false, Ordering::AcqRel) {
        tracing::info!(server, "connected again");
    }
}
