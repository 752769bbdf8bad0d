//! The connection to Redis that all calls share. Calls on it are pipelined. A checkout from a pool
//! for each call would send a PING first. The connection is made when it is needed, and replaced
//! when it is broken.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_redis::redis::{
    self, Cmd, ErrorKind, FromRedisValue, InfoDict, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};
use futures_util::future::join_all;
use tokio::sync::watch;

use super::{failed, refused, topology::Connector};
use crate::tiers::l2::L2Error;

/// This many failed or unanswered calls to a Cluster within `FAILURE_WINDOW` start a new discovery
/// of its nodes.
const MAX_FAILURES: u32 = 3;
const FAILURE_WINDOW: Duration = Duration::from_secs(1);

/// An established connection. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    One { address: String, connection: MultiplexedConnection },
    /// To every node of a Cluster.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends one command and returns its answer.
    pub(super) async fn query<R: FromRedisValue>(self, command: &Cmd) -> RedisResult<R> {
        match self {
            Self::One { mut connection, .. } => command.query_async(&mut connection).await,
            Self::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }

    /// Calls a script once for each item, on one key each, and returns the answers in order. A
    /// single server gets all calls in one pipeline. In a Cluster the calls go to their nodes
    /// concurrently.
    pub(super) async fn run<T: Sync>(
        self,
        script: &Script,
        items: &[T],
        arguments: impl Fn(&mut Cmd, &T) + Sync,
    ) -> RedisResult<Vec<Value>> {
        let call = |mode: EvalMode, item: &T| {
            let mut command = mode.command(script);
            arguments(command.arg(1), item);
            command
        };
        match self {
            Self::One { mut connection, .. } => {
                let pipeline = |first: EvalMode| {
                    let mut pipeline = Pipeline::with_capacity(items.len());
                    for (at, item) in items.iter().enumerate() {
                        pipeline.add_command(call(if at == 0 { first } else { EvalMode::Sha }, item));
                    }
                    pipeline
                };
                match pipeline(EvalMode::Sha).query_async(&mut connection).await {
                    // Redis has executed none of the calls.
                    Err(error) if is_noscript(&error) => pipeline(EvalMode::Source).query_async(&mut connection).await,
                    answer => answer,
                }
            }
            Self::Cluster(connection) => {
                let call = &call;
                let one = |item| {
                    let mut connection = connection.clone();
                    async move {
                        match call(EvalMode::Sha, item).query_async(&mut connection).await {
                            Err(error) if is_noscript(&error) => {
                                call(EvalMode::Source, item).query_async(&mut connection).await
                            }
                            answer => answer,
                        }
                    }
                };
                // All calls are executed even if one fails, so the calls to the other nodes take
                // effect.
                join_all(items.iter().map(one)).await.into_iter().collect()
            }
        }
    }

    /// The `INFO` of the server, or of each primary of a Cluster.
    pub(super) async fn info(self, sections: &[&str]) -> RedisResult<Vec<(String, InfoDict)>> {
        let mut command = redis::cmd("INFO");
        command.arg(sections);
        match self {
            Self::One { address, mut connection } => Ok(vec![(address, command.query_async(&mut connection).await?)]),
            Self::Cluster(mut connection) => {
                let primaries = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let Value::Map(said) = connection.route_command(command, primaries).await? else {
                    return Ok(Vec::new());
                };
                let node = |(address, said)| {
                    Some((String::from_redis_value(address).ok()?, InfoDict::from_redis_value(said).ok()?))
                };
                Ok(said.into_iter().filter_map(node).collect())
            }
        }
    }
}

/// A script of the protocol, with its SHA-1.
pub(super) struct Script {
    source: &'static str,
    sha: String,
}

impl Script {
    pub(super) fn new(source: &'static str) -> Self {
        Self { source, sha: redis::Script::new(source).get_hash().to_owned() }
    }
}

/// How a script is called: by its SHA-1 or by its source. Redis loses scripts when it restarts or
/// fails over. One call by source stores the script again.
#[derive(Clone, Copy)]
enum EvalMode {
    Sha,
    Source,
}

impl EvalMode {
    fn command(self, script: &Script) -> Cmd {
        let mut command = Cmd::new();
        match self {
            Self::Sha => command.arg("EVALSHA").arg(&script.sha),
            Self::Source => command.arg("EVAL").arg(script.source),
        };
        command
    }
}

fn is_noscript(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The present connection and its number. The number lets late failures of an earlier connection be
/// ignored.
#[derive(Default)]
struct Current {
    connection: Option<Connection>,
    number: u64,
}

impl Current {
    fn get(&self) -> Option<(Connection, u64)> {
        Some((self.connection.clone()?, self.number))
    }

    fn set(&mut self, connection: Option<Connection>) {
        self.number += 1;
        self.connection = connection;
    }
}

/// Holds the present connection and replaces it.
pub(super) struct ConnectionManager {
    connector: Connector,
    current: Mutex<Current>,
    connecting: tokio::sync::Mutex<()>,
    attempts: AtomicU64,
    /// The number of lost connections so far.
    lost: watch::Sender<u64>,
    failures: Mutex<FailureWindow>,
}

impl ConnectionManager {
    pub(super) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            connector,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            lost: watch::Sender::new(0),
            failures: Mutex::new(FailureWindow { since: Instant::now(), count: 0 }),
        })
    }

    /// Makes a call, and notes a broken connection if the call fails or is abandoned.
    pub(super) async fn call<R, F>(self: &Arc<Self>, call: impl FnOnce(Connection) -> F) -> Result<R, L2Error>
    where
        F: Future<Output = RedisResult<R>>,
    {
        let (connection, number) = self.connection().await?;
        let mut guard = CallGuard(Some((self, number)));
        let answer = call(connection).await;
        guard.0 = None;
        if answer.as_ref().is_err_and(is_connection_error) {
            self.failed(number);
        }
        answer.map_err(refused)
    }

    /// Subscribes to a channel. The second value changes when a connection was lost, because
    /// messages may then be missed.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<(redis::aio::PubSub, watch::Receiver<u64>), L2Error> {
        let lost = self.lost.subscribe();
        Ok((self.connector.subscribe(channel).await?, lost))
    }

    /// The present connection, or a new one. Connecting continues after the caller's deadline, and
    /// only one connection is made at a time.
    async fn connection(self: &Arc<Self>) -> Result<(Connection, u64), L2Error> {
        if let Some(connection) = self.current().get() {
            return Ok(connection);
        }
        let this = Arc::clone(self);
        let seen = self.attempts.load(Ordering::Acquire);
        tokio::spawn(async move { this.connect(seen).await }).await.map_err(failed)?
    }

    async fn connect(&self, seen: u64) -> Result<(Connection, u64), L2Error> {
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(connection) = self.current().get() {
            return Ok(connection);
        }
        if self.attempts.load(Ordering::Acquire) != seen {
            return Err(L2Error("connecting failed a moment ago".into()));
        }
        self.attempts.fetch_add(1, Ordering::AcqRel);
        let connection = self.connector.connect().await?;
        let mut current = self.current();
        current.set(Some(connection.clone()));
        Ok((connection, current.number))
    }

    /// Handles a call that failed with a connection error. A connection to a single server is
    /// dropped. A connection to a Cluster still reaches the other nodes, so a second one is made
    /// beside it and discovers the present nodes. The client does not do this itself when answers
    /// are missing.
    fn failed(self: &Arc<Self>, number: u64) {
        let mut current = self.current();
        if current.number != number {
            return;
        }
        if self.connector.is_single_node() {
            self.connector.reset_pool();
            current.set(None);
            self.lost.send_modify(|lost| *lost += 1);
        } else if self.failures.lock().unwrap_or_else(PoisonError::into_inner).record(Instant::now()) {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let Ok(_one_at_a_time) = this.connecting.try_lock() else { return };
                if let Ok(connection) = this.connector.connect().await {
                    this.current().set(Some(connection));
                    this.lost.send_modify(|lost| *lost += 1);
                }
            });
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error concerns the connection or the server's role, and not the command.
fn is_connection_error(error: &RedisError) -> bool {
    let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    demoted || error.is_io_error() || error.is_timeout() || error.is_cluster_error() || error.is_unrecoverable_error()
}

/// Counts a call as failed if its caller abandons it. The caller's deadline is shorter than the
/// client's. The client therefore rarely notices that a frozen node doesn't answer.
struct CallGuard<'a>(Option<(&'a Arc<ConnectionManager>, u64)>);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if let Some((connection, number)) = self.0.filter(|(connection, _)| !connection.connector.is_single_node()) {
            connection.failed(number);
        }
    }
}

/// The failures of the present window.
struct FailureWindow {
    since: Instant,
    count: u32,
}

impl FailureWindow {
    /// Counts one failure. Returns true once in each window, when the limit is reached.
    fn record(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) > FAILURE_WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count += 1;
        self.count == MAX_FAILURES
    }
}
