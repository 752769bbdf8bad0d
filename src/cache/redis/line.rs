//! The line to Redis that all calls share. Calls on it are pipelined, where a checkout from a pool for each call would send a PING
//! first. It is made when it is needed, and made anew when it is dead.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_redis::redis::{
    self, Cmd, ErrorKind, FromRedisValue, InfoDict, Pipeline, RedisError, RedisResult, Script, ServerErrorKind, Value,
    aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};
use futures_util::future::join_all;
use tokio::sync::watch;

use super::{failed, place::Target};
use crate::cache::l2::L2Error;

/// So many calls to a Cluster that fail or stay unanswered within this time: its nodes are looked for anew.
const FAILURES: u32 = 3;
const WINDOW: Duration = Duration::from_secs(1);

/// A line that was made. Cheap to clone.
#[derive(Clone)]
pub(super) enum Line {
    /// To one server.
    One { address: String, connection: MultiplexedConnection },
    /// To every node of a Cluster.
    Cluster(ClusterConnection),
}

impl Line {
    /// Sends one command.
    pub(super) async fn query<R: FromRedisValue>(self, command: &Cmd) -> RedisResult<R> {
        match self {
            Self::One { mut connection, .. } => command.query_async(&mut connection).await,
            Self::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }

    /// Calls a verb once for each item, on one key each, and returns the answers in their order. One server gets all calls in one
    /// pipeline; in a Cluster they go to their nodes side by side.
    pub(super) async fn run<T: Sync>(
        self,
        verb: &Verb,
        items: &[T],
        arguments: impl Fn(&mut Cmd, &T) + Sync,
    ) -> RedisResult<Vec<Value>> {
        let call = |by: By, item: &T| {
            let mut command = by.command(verb);
            arguments(command.arg(1), item);
            command
        };
        match self {
            Self::One { mut connection, .. } => {
                let pipeline = |first: By| {
                    let mut pipeline = Pipeline::with_capacity(items.len());
                    for (at, item) in items.iter().enumerate() {
                        pipeline.add_command(call(if at == 0 { first } else { By::Hash }, item));
                    }
                    pipeline
                };
                match pipeline(By::Hash).query_async(&mut connection).await {
                    // None of them had been carried out.
                    Err(error) if is_unknown(&error) => pipeline(By::Text).query_async(&mut connection).await,
                    answer => answer,
                }
            }
            Self::Cluster(connection) => {
                let call = &call;
                let one = |item| {
                    let mut connection = connection.clone();
                    async move {
                        match call(By::Hash, item).query_async(&mut connection).await {
                            Err(error) if is_unknown(&error) => call(By::Text, item).query_async(&mut connection).await,
                            answer => answer,
                        }
                    }
                };
                // All are carried out, also when one fails: what the other nodes are told reaches them.
                join_all(items.iter().map(one)).await.into_iter().collect()
            }
        }
    }

    /// What each server, or each primary of a Cluster, says of itself.
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

/// A script of the protocol.
pub(super) struct Verb {
    text: &'static str,
    hash: String,
}

impl Verb {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }
}

/// How a script is named. Redis forgets scripts when it restarts or fails over, and knows one again that it was once sent in full.
#[derive(Clone, Copy)]
enum By {
    Hash,
    Text,
}

impl By {
    fn command(self, verb: &Verb) -> Cmd {
        let mut command = Cmd::new();
        match self {
            Self::Hash => command.arg("EVALSHA").arg(&verb.hash),
            Self::Text => command.arg("EVAL").arg(verb.text),
        };
        command
    }
}

fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The line, and how many lines there were before. A late failure of an earlier one says nothing of it.
#[derive(Default)]
struct Current {
    line: Option<Line>,
    number: u64,
}

impl Current {
    fn get(&self) -> Option<(Line, u64)> {
        Some((self.line.clone()?, self.number))
    }

    fn set(&mut self, line: Option<Line>) {
        self.number += 1;
        self.line = line;
    }
}

/// The line, and how to come by another one.
pub(super) struct SharedLine {
    place: Target,
    current: Mutex<Current>,
    connecting: tokio::sync::Mutex<()>,
    attempts: AtomicU64,
    /// How many lines were lost so far.
    lost: watch::Sender<u64>,
    failures: Mutex<Lately>,
}

impl SharedLine {
    pub(super) fn new(place: Target) -> Arc<Self> {
        Arc::new(Self {
            place,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            lost: watch::Sender::new(0),
            failures: Mutex::new(Lately { since: Instant::now(), count: 0 }),
        })
    }

    /// Makes a call, and draws from its end what it says about the line.
    pub(super) async fn call<R, F>(self: &Arc<Self>, call: impl FnOnce(Line) -> F) -> Result<R, L2Error>
    where
        F: Future<Output = RedisResult<R>>,
    {
        let (line, number) = self.line().await?;
        let mut unanswered = Unanswered(Some((self, number)));
        let answer = call(line).await;
        unanswered.0 = None;
        if answer.as_ref().is_err_and(is_of_the_line) {
            self.failed(number);
        }
        answer.map_err(failed)
    }

    /// Where messages come from, and a signal for when they may be missed because a line was lost.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<(redis::aio::PubSub, watch::Receiver<u64>), L2Error> {
        let lost = self.lost.subscribe();
        Ok((self.place.subscribe(channel).await?, lost))
    }

    /// The line. Making one goes on when the caller's deadline ends, and only one is made at a time.
    async fn line(self: &Arc<Self>) -> Result<(Line, u64), L2Error> {
        if let Some(line) = self.current().get() {
            return Ok(line);
        }
        let this = Arc::clone(self);
        let seen = self.attempts.load(Ordering::Acquire);
        tokio::spawn(async move { this.connect(seen).await }).await.map_err(failed)?
    }

    async fn connect(&self, seen: u64) -> Result<(Line, u64), L2Error> {
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(line) = self.current().get() {
            return Ok(line);
        }
        if self.attempts.load(Ordering::Acquire) != seen {
            return Err(L2Error("connecting failed a moment ago".into()));
        }
        self.attempts.fetch_add(1, Ordering::AcqRel);
        let line = self.place.connect().await?;
        let mut current = self.current();
        current.set(Some(line.clone()));
        Ok((line, current.number))
    }

    /// A call on a line failed as calls do when the line is dead. A line to one server is thrown away. One to a Cluster still reaches the
    /// other nodes, so another is made beside it, which finds out who is who by now: the client itself doesn't when answers stay out.
    fn failed(self: &Arc<Self>, number: u64) {
        let mut current = self.current();
        if current.number != number {
            return;
        }
        if self.place.is_one_server() {
            self.place.forget();
            current.set(None);
            self.lost.send_modify(|lost| *lost += 1);
        } else if self.failures.lock().unwrap_or_else(PoisonError::into_inner).enough(Instant::now()) {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let Ok(_one_at_a_time) = this.connecting.try_lock() else { return };
                if let Ok(line) = this.place.connect().await {
                    this.current().set(Some(line));
                    this.lost.send_modify(|lost| *lost += 1);
                }
            });
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error tells of the line or of whom it leads to, and not of what was asked.
fn is_of_the_line(error: &RedisError) -> bool {
    let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    demoted || error.is_io_error() || error.is_timeout() || error.is_cluster_error() || error.is_unrecoverable_error()
}

/// A call that its caller has not given up. The caller's deadline is shorter than the client's, which therefore never sees most of
/// what a frozen node leaves unanswered.
struct Unanswered<'a>(Option<(&'a Arc<SharedLine>, u64)>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some((line, number)) = self.0.filter(|(line, _)| !line.place.is_one_server()) {
            line.failed(number);
        }
    }
}

/// Failures of late.
struct Lately {
    since: Instant,
    count: u32,
}

impl Lately {
    /// Counts one more, and says once in each window whether they are enough.
    fn enough(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) > WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count += 1;
        self.count == FAILURES
    }
}
