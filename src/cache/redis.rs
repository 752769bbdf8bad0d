//! Redis as L2. All calls share one multiplexed connection, taken from a deadpool pool: the pool makes, checks and remakes it,
//! and sharing it pipelines concurrent calls (about six times the calls per second of a checkout per call, whose recycling
//! sends a PING before every use).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_redis::{
    Manager, Pool, PoolConfig, Runtime, Timeouts,
    redis::{self, AsyncConnectionConfig, AsyncTypedCommands, aio::MultiplexedConnection},
};

use super::l2::{L2, L2Error, L2Put};

/// Time to connect and shake hands. Longer than the deadline of a call: connecting goes on in the background.
const CONNECT: Duration = Duration::from_millis(500);
/// Time for an answer before the connection counts as dead.
const RESPONSE: Duration = Duration::from_millis(500);

/// Redis behind the L2 trait. Cheap to clone.
#[derive(Clone)]
pub struct RedisL2(Arc<Inner>);

struct Inner {
    pool: Pool,
    shared: Mutex<Option<MultiplexedConnection>>,
    connecting: tokio::sync::Mutex<()>,
    attempts: AtomicU64,
}

impl RedisL2 {
    /// Prepares the connection without making it: a Redis that is away delays nobody's start.
    ///
    /// # Errors
    /// When the URL isn't one that Redis' client understands.
    pub fn new(url: &str) -> Result<Self, L2Error> {
        let connection = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        let manager = Manager::new_with_config(url, connection).map_err(failed)?;
        let timeouts = Timeouts {
            wait: Some(CONNECT),
            create: Some(CONNECT),
            recycle: Some(RESPONSE),
        };
        let pool = Pool::builder(manager)
            .config(PoolConfig {
                max_size: 1,
                timeouts,
                ..PoolConfig::default()
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(failed)?;
        Ok(Self(Arc::new(Inner {
            pool,
            shared: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
        })))
    }

    /// The shared connection. Making one goes on when the caller's deadline ends, and only one is made at a time.
    async fn connection(&self) -> Result<MultiplexedConnection, L2Error> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let this = self.clone();
        let seen = this.0.attempts.load(Ordering::Acquire);
        tokio::spawn(async move { this.connect(seen).await })
            .await
            .map_err(failed)?
    }

    async fn connect(&self, seen: u64) -> Result<MultiplexedConnection, L2Error> {
        let _one_at_a_time = self.0.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        if self.0.attempts.load(Ordering::Acquire) != seen {
            return Err(L2Error("connecting failed a moment ago".into()));
        }
        self.0.attempts.fetch_add(1, Ordering::AcqRel);
        let connection = (*self.0.pool.get().await.map_err(failed)?).clone();
        *self.0.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }

    fn current(&self) -> Option<MultiplexedConnection> {
        self.0
            .shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Passes an answer on; after a failure of the connection itself the next call makes a new one.
    fn checked<R>(&self, answer: redis::RedisResult<R>) -> Result<R, L2Error> {
        answer.map_err(|error| {
            if error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error() {
                *self.0.shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            failed(error)
        })
    }
}

#[async_trait]
impl L2 for RedisL2 {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, L2Error> {
        let mut connection = self.connection().await?;
        let mut mget = redis::cmd("MGET");
        for key in keys {
            mget.arg(key);
        }
        self.checked(mget.query_async(&mut connection).await)
    }

    async fn put_many(&self, entries: &[L2Put]) -> Result<(), L2Error> {
        let mut connection = self.connection().await?;
        let mut pipeline = redis::pipe();
        for L2Put {
            key,
            value,
            lifetime,
        } in entries
        {
            let milliseconds = lifetime.as_millis().max(1) as u64;
            pipeline
                .cmd("SET")
                .arg(key)
                .arg(value.as_ref())
                .arg("PX")
                .arg(milliseconds)
                .ignore();
        }
        self.checked(pipeline.query_async(&mut connection).await)
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), L2Error> {
        let mut connection = self.connection().await?;
        self.checked(connection.unlink(keys).await.map(|_: usize| ()))
    }
}

fn failed(error: impl std::fmt::Display) -> L2Error {
    L2Error(error.to_string())
}
