//! Redis as L2: a single server, a primary behind Sentinels, or a Cluster. Every operation is one
//! script on one key, so it works on a Cluster too. Value, lease and floor of a key are moved and
//! lost together. A promoted replica may lack recent writes, and any L2 may lose that much.

mod connection;
mod topology;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_redis::redis::{self, InfoDict, RedisError, Value};
use futures_util::StreamExt;

use self::connection::{Connection, ConnectionManager, Script};
pub use self::topology::{RedisTls, RedisTopology};
use crate::tiers::l2::{Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error, NodeMemory};

/// The connection for hints is replaced after this time without a hint.
const SUBSCRIPTION_IDLE_LIMIT: Duration = Duration::from_secs(30);

/// An implementation of the L2 trait for Redis.
pub struct RedisL2 {
    connection: Arc<ConnectionManager>,
    fetch: Script,
    fill: Script,
    invalidate: Script,
}

impl RedisL2 {
    /// Prepares the connection without making it, so a Redis that is down delays no start.
    ///
    /// # Errors
    /// If Redis' client rejects a URL or a certificate.
    pub fn new(topology: RedisTopology, tls: &RedisTls) -> Result<Self, L2Error> {
        Ok(Self::over(topology::Connector::new(topology, tls).map_err(failed)?))
    }

    fn over(connector: topology::Connector) -> Self {
        Self {
            connection: ConnectionManager::new(connector),
            fetch: Script::new(include_str!("../scripts/fetch.lua")),
            fill: Script::new(include_str!("../scripts/fill.lua")),
            invalidate: Script::new(include_str!("../scripts/invalidate.lua")),
        }
    }

    /// A single server, by a client with settings of one's own. Calls share one connection.
    ///
    /// # Errors
    /// If the client's address is invalid.
    ///
    /// ```
    /// use aside_cache::{RedisL2, deadpool_redis::redis::Client};
    ///
    /// let client = Client::open("redis://cache:secret@127.0.0.1:6379/2").unwrap();
    /// assert!(RedisL2::from_client(client).is_ok());
    /// ```
    pub fn from_client(client: redis::Client) -> Result<Self, L2Error> {
        Ok(Self::over(topology::Connector::of_client(client).map_err(failed)?))
    }

    /// A single server, by a pool that the service has already. All calls share one connection,
    /// which is returned to the pool at once. The pool's own timeouts apply. When the connection
    /// breaks, the idle connections of the pool are dropped. `client` makes the connection for
    /// hints.
    pub fn from_pool(pool: deadpool_redis::Pool, client: redis::Client) -> Self {
        Self::over(topology::Connector::Standalone { pool, client: Box::new(client) })
    }

    /// A single server, by its URL.
    ///
    /// # Errors
    /// As [`RedisL2::new`].
    pub fn standalone(url: &str) -> Result<Self, L2Error> {
        Self::new(RedisTopology::Standalone(url.to_owned()), &RedisTls::default())
    }
}

#[async_trait]
impl L2 for RedisL2 {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error> {
        let lease = lease.as_millis() as u64;
        let arguments = |call: &mut redis::Cmd, Fetch { key, min_version }: &Fetch| {
            call.arg(key).arg(token).arg(lease).arg(min_version);
        };
        let answers = self.connection.call(|connection| connection.run(&self.fetch, keys, arguments)).await?;
        answers.into_iter().map(fetched).collect()
    }

    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error> {
        let arguments = |call: &mut redis::Cmd, Fill { key, value, lifetime }: &Fill| {
            call.arg(key).arg(token);
            if let Some((version, value)) = value {
                call.arg(version).arg(value.as_ref()).arg(lifetime.as_millis().max(1) as u64);
            }
        };
        let answers = self.connection.call(|connection| connection.run(&self.fill, fills, arguments)).await?;
        answers.into_iter().map(filled).collect()
    }

    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error> {
        let arguments = |call: &mut redis::Cmd, Invalidation { key, version }: &Invalidation| {
            call.arg(key).arg(version);
        };
        self.connection.call(|connection| connection.run(&self.invalidate, keys, arguments)).await.map(|_| ())
    }

    async fn ping(&self) -> Result<(), L2Error> {
        let command = redis::cmd("PING");
        self.connection.call(|connection| connection.query(&command)).await
    }

    async fn memory(&self) -> Result<Vec<NodeMemory>, L2Error> {
        let said = self.connection.call(|connection| connection.info(&["memory", "stats"])).await?;
        said.into_iter().map(|(address, said)| node_memory(address, &said)).collect()
    }

    async fn hint(&self, channel: &str) -> Result<(), L2Error> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg("");
        self.connection.call(|connection| connection.query(&command)).await
    }

    async fn listen(&self, channel: &str, heard: &(dyn Fn() + Send + Sync)) -> Result<(), L2Error> {
        let (listener, mut lost) = self.connection.subscribe(channel).await?;
        let mut hints = listener.into_on_message();
        // A broken connection without an error looks like an idle one, so an idle connection is
        // replaced after a while. If the connection for calls was lost, this one may lead to the
        // same broken server, and is replaced too.
        let mut hint = async || {
            tokio::select! {
                hint = tokio::time::timeout(SUBSCRIPTION_IDLE_LIMIT, hints.next()) => matches!(hint, Ok(Some(_))),
                _ = lost.changed() => false,
            }
        };
        while hint().await {
            heard();
        }
        Err(L2Error("the connection for hints was closed or quiet".into()))
    }
}

fn fetched(answer: Value) -> Result<Fetched, L2Error> {
    match answer {
        Value::Nil => Ok(Fetched::Leased),
        Value::Int(wait) => Ok(Fetched::Busy(Duration::from_millis(wait.unsigned_abs()))),
        Value::BulkString(hit) => value_of(hit).ok_or_else(|| L2Error("a value without its order".into())),
        // The error doesn't contain the answer, which may be a customer's data.
        _ => Err(L2Error("an answer of another kind".into())),
    }
}

/// Splits `version:payload`.
fn value_of(hit: Vec<u8>) -> Option<Fetched> {
    let colon = hit.iter().position(|byte| *byte == b':')?;
    let version = std::str::from_utf8(&hit[..colon]).ok()?.parse().ok()?;
    Some(Fetched::Hit { version, value: Bytes::from(hit).slice(colon + 1..) })
}

/// The memory of a node, from its `INFO`.
fn node_memory(address: String, said: &InfoDict) -> Result<NodeMemory, L2Error> {
    let find = |name: &str| said.get::<String>(name);
    let number = |name: &str| find(name).and_then(|text| text.parse::<u64>().ok());
    Ok(NodeMemory {
        address,
        used_bytes: number("used_memory").ok_or_else(|| L2Error("no used_memory".into()))?,
        limit_bytes: number("maxmemory").filter(|limit| *limit > 0),
        policy: find("maxmemory_policy").unwrap_or_default(),
        evicted: number("evicted_keys").unwrap_or_default(),
        fragmentation: find("mem_fragmentation_ratio").and_then(|text| text.parse().ok()).unwrap_or(f64::NAN),
    })
}

fn filled(answer: Value) -> Result<Filled, L2Error> {
    let Value::BulkString(answer) = answer else { return Err(L2Error("an answer of another kind".into())) };
    match answer.as_slice() {
        b"kept" => Ok(Filled::Kept),
        b"lease_lost" => Ok(Filled::LeaseLost),
        b"older" => Ok(Filled::Older),
        b"released" => Ok(Filled::Released),
        other => Err(L2Error(format!("unknown answer {:?}", String::from_utf8_lossy(other)))),
    }
}

/// An error of a call, with the code that Redis gave it (`NOPERM`, `OOM`, …), which operators search for.
fn refused(error: RedisError) -> L2Error {
    let code = error.clone().into_server_errors().and_then(|errors| Some(errors.first()?.1.code().to_owned()));
    L2Error(code.map_or_else(|| error.to_string(), |code| format!("{code}: {error}")))
}

fn failed(error: impl std::fmt::Display) -> L2Error {
    L2Error(error.to_string())
}
