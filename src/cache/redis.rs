//! Redis as L2. All calls share one multiplexed connection, taken from a deadpool pool: the pool makes, checks and remakes it,
//! and sharing it pipelines concurrent calls, where a checkout for each call would send a PING first. Every verb is one script on one key, pipelined: no verb spans two keys, so it works on a Cluster
//! as well, and a key's value, lease and floor move and vanish together.

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
    redis::{
        self, AsyncConnectionConfig, Client, ClientTlsConfig, ErrorKind, FromRedisValue, InfoDict, Pipeline, Script,
        ServerErrorKind, TlsCertificates, Value, aio::MultiplexedConnection,
    },
};
use futures_util::StreamExt;

use super::l2::{Fetch, Fetched, Fill, Filled, Invalidation, L2, L2Error, NodeMemory};

/// Time to connect and shake hands. Longer than the deadline of a call: connecting goes on in the background.
const CONNECT: Duration = Duration::from_millis(500);
/// Time for an answer before the connection counts as dead.
const RESPONSE: Duration = Duration::from_millis(500);

/// After this time without a hint the line for hints is made anew.
const QUIET: Duration = Duration::from_secs(30);

/// Redis behind the L2 trait. Cheap to clone.
#[derive(Clone)]
pub struct RedisL2(Arc<Inner>);

struct Inner {
    pool: Pool,
    /// Makes the connection for hints, which can serve nothing else.
    listener: Client,
    shared: Mutex<Option<MultiplexedConnection>>,
    connecting: tokio::sync::Mutex<()>,
    attempts: AtomicU64,
    fetch: Script,
    fill: Script,
    invalidate: Script,
}

/// Whom to believe on a line by TLS (`rediss://`), and who to be. Everything in PEM.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// The authority that signs the server's certificate; `None`: those that the system knows.
    pub authority: Option<Vec<u8>>,
    /// Certificate and key to show the server, if it asks.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisL2 {
    /// Prepares the connection without making it: a Redis that is away delays nobody's start.
    ///
    /// # Errors
    /// When the URL isn't one that Redis' client understands.
    pub fn new(url: &str) -> Result<Self, L2Error> {
        Self::with_tls(url, RedisTls::default())
    }

    /// The same with certificates of one's own.
    ///
    /// # Errors
    /// As [`RedisL2::new`], and when a certificate can't be understood.
    pub fn with_tls(url: &str, RedisTls { authority, client }: RedisTls) -> Result<Self, L2Error> {
        let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let certificates = TlsCertificates { client_tls, root_cert: authority };
        let client = match url.starts_with("rediss:") {
            true => Client::build_with_tls(url, certificates).map_err(failed)?,
            false => Client::open(url).map_err(failed)?,
        };
        let connection =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(RESPONSE));
        let manager = Manager::new_with_config(client.get_connection_info().clone(), connection).map_err(failed)?;
        let timeouts = Timeouts { wait: Some(CONNECT), create: Some(CONNECT), recycle: Some(RESPONSE) };
        let pool = Pool::builder(manager)
            .config(PoolConfig { max_size: 1, timeouts, ..PoolConfig::default() })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(failed)?;
        Ok(Self(Arc::new(Inner {
            pool,
            listener: client,
            shared: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            fetch: Script::new(include_str!("scripts/fetch.lua")),
            fill: Script::new(include_str!("scripts/fill.lua")),
            invalidate: Script::new(include_str!("scripts/invalidate.lua")),
        })))
    }

    /// The shared connection. Making one goes on when the caller's deadline ends, and only one is made at a time.
    async fn connection(&self) -> Result<MultiplexedConnection, L2Error> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let this = self.clone();
        let seen = this.0.attempts.load(Ordering::Acquire);
        tokio::spawn(async move { this.connect(seen).await }).await.map_err(failed)?
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
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error> {
        let mut pipeline = redis::pipe();
        for Fetch { key, min_order } in keys {
            let lease = lease.as_millis() as u64;
            self.call(&mut pipeline, &self.0.fetch, key).arg(token).arg(lease).arg(min_order);
        }
        let answers: Vec<Value> = self.run(&self.0.fetch, &pipeline).await?;
        answers.into_iter().map(fetched).collect()
    }

    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error> {
        let mut pipeline = redis::pipe();
        for Fill { key, value, lifetime } in fills {
            let call = self.call(&mut pipeline, &self.0.fill, key).arg(token);
            if let Some((order, value)) = value {
                let lifetime = lifetime.as_millis().max(1) as u64;
                call.arg(order).arg(value.as_ref()).arg(lifetime);
            }
        }
        let answers: Vec<String> = self.run(&self.0.fill, &pipeline).await?;
        answers.iter().map(|answer| filled(answer)).collect()
    }

    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error> {
        let mut pipeline = redis::pipe();
        for Invalidation { key, order } in keys {
            self.call(&mut pipeline, &self.0.invalidate, key).arg(order);
        }
        self.run::<Vec<i64>>(&self.0.invalidate, &pipeline).await.map(|_| ())
    }

    async fn ping(&self) -> Result<(), L2Error> {
        let mut connection = self.connection().await?;
        self.checked(redis::cmd("PING").exec_async(&mut connection).await)
    }

    async fn memory(&self) -> Result<Vec<NodeMemory>, L2Error> {
        let mut connection = self.connection().await?;
        let address = self.0.listener.get_connection_info().addr().to_string();
        let said = redis::cmd("INFO").arg("memory").arg("stats").query_async(&mut connection).await;
        Ok(vec![node_memory(address, &self.checked(said)?)?])
    }

    async fn hint(&self, channel: &str) -> Result<(), L2Error> {
        let mut connection = self.connection().await?;
        self.checked(redis::cmd("PUBLISH").arg(channel).arg("").exec_async(&mut connection).await)
    }

    async fn listen(&self, channel: &str, heard: &(dyn Fn() + Send + Sync)) -> Result<(), L2Error> {
        let subscribing = async {
            let mut listener = self.0.listener.get_async_pubsub().await?;
            listener.subscribe(channel).await?;
            Ok::<_, redis::RedisError>(listener)
        };
        let listener = tokio::time::timeout(CONNECT, subscribing).await.map_err(failed)?.map_err(failed)?;
        let mut hints = listener.into_on_message();
        // A line that is dead without a word looks like a quiet one, so a quiet one is made anew now and then.
        while let Ok(Some(_)) = tokio::time::timeout(QUIET, hints.next()).await {
            heard();
        }
        Err(L2Error("the line for hints was closed or quiet".into()))
    }
}

impl RedisL2 {
    /// Adds the call of a script on one key to a pipeline; its arguments follow.
    fn call<'p>(&self, pipeline: &'p mut Pipeline, script: &Script, key: &str) -> &'p mut Pipeline {
        pipeline.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg(key)
    }

    /// Runs a pipeline of calls of one script. Redis forgets scripts when it restarts or fails over: then the script is loaded
    /// and the pipeline is run again, which is safe because none of its calls had been carried out.
    async fn run<R: FromRedisValue>(&self, script: &Script, calls: &Pipeline) -> Result<R, L2Error> {
        let mut connection = self.connection().await?;
        let mut answer = calls.query_async(&mut connection).await;
        if answer.as_ref().is_err_and(|error: &redis::RedisError| error.kind() == NO_SCRIPT) {
            self.checked(script.prepare_invoke().load_async(&mut connection).await)?;
            answer = calls.query_async(&mut connection).await;
        }
        self.checked(answer)
    }
}

const NO_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

fn fetched(answer: Value) -> Result<Fetched, L2Error> {
    match answer {
        Value::Nil => Ok(Fetched::Leased),
        Value::Int(wait) => Ok(Fetched::Busy(Duration::from_millis(wait.unsigned_abs()))),
        Value::BulkString(hit) => value_of(hit).ok_or_else(|| L2Error("a value without its order".into())),
        // Not what it says: it may be somebody's order.
        _ => Err(L2Error("an answer of another kind".into())),
    }
}

/// Takes `order:payload` apart.
fn value_of(hit: Vec<u8>) -> Option<Fetched> {
    let colon = hit.iter().position(|byte| *byte == b':')?;
    let order = std::str::from_utf8(&hit[..colon]).ok()?.parse().ok()?;
    Some(Fetched::Hit { order, value: Bytes::from(hit).slice(colon + 1..) })
}

/// What `INFO` says of a node's memory.
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

fn filled(answer: &str) -> Result<Filled, L2Error> {
    match answer {
        "kept" => Ok(Filled::Kept),
        "lease_lost" => Ok(Filled::LeaseLost),
        "older" => Ok(Filled::Older),
        "released" => Ok(Filled::Released),
        other => Err(L2Error(format!("unknown answer {other:?}"))),
    }
}

fn failed(error: impl std::fmt::Display) -> L2Error {
    L2Error(error.to_string())
}
