//! The topology of Redis: a single server, the primary that Sentinels name, or the nodes of a
//! Cluster. It makes the connections. A connection to a single server comes from a deadpool pool.
//! deadpool's managers for Sentinel and Cluster accept neither deadlines nor certificates.
//! Connections there are made by the client itself, and each step has a deadline.

use std::time::Duration;

use deadpool_redis::{
    Manager, Pool, PoolConfig, Runtime, Timeouts,
    redis::{
        AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, RedisResult, TlsCertificates, TlsMode,
        aio::PubSub,
        cluster::{ClusterClient, ClusterClientBuilder},
        sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
    },
};
use tokio::time::timeout;

use super::{Connection, failed};
use crate::tiers::l2::L2Error;

/// Timeout to connect and shake hands. It is longer than the deadline of a call, because connecting
/// continues in the background.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of an answer. After it the connection counts as broken.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout to find the present servers from the configured ones, some of which may be down, and to
/// connect to them.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The first two timeouts for each node of a Cluster. They are short, so that calls soon skip a
/// frozen node.
const NODE_CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
const NODE_RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
/// How often a call follows a redirection to another node.
const MAX_REDIRECTS: u32 = 2;

/// The servers of Redis.
#[derive(Clone)]
pub enum RedisTopology {
    /// A single server, by its URL.
    Standalone(String),
    /// A primary behind Sentinels.
    Sentinel {
        /// The URLs of the Sentinels. User, password and database of the first one belong to Redis.
        sentinels: Vec<String>,
        /// The name of the primary at the Sentinels.
        primary: String,
        /// The password of the Sentinels themselves.
        password: Option<String>,
    },
    /// A Cluster, by the URLs of some of its nodes. The client discovers the others.
    Cluster(Vec<String>),
}

/// The certificates for TLS (`rediss://`), all in PEM.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// The authority that signs the server's certificate. `None`: the authorities of the system.
    pub authority: Option<Vec<u8>>,
    /// The certificate and key of this client, if the server requires them.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisTls {
    fn certificates(&self) -> TlsCertificates {
        let client_tls =
            self.client.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: self.authority.clone() }
    }
}

/// A topology whose URLs and certificates are valid.
pub(super) enum Connector {
    Standalone { pool: Pool, client: Box<Client> },
    Sentinel(Box<Sentinels>),
    Cluster { client: Box<ClusterClient>, seeds: Vec<Client> },
}

pub(super) struct Sentinels {
    addresses: Vec<ConnectionAddr>,
    /// The user, password and database on the primary.
    redis: Client,
    primary: String,
    password: Option<String>,
    certificates: Option<TlsCertificates>,
}

impl Connector {
    pub(super) fn new(topology: RedisTopology, tls: &RedisTls) -> RedisResult<Self> {
        let client = |url: &String| match is_tls(url) {
            true => Client::build_with_tls(url.as_str(), tls.certificates()),
            false => Client::open(url.as_str()),
        };
        Ok(match topology {
            RedisTopology::Standalone(url) => Self::of_client(client(&url)?)?,
            RedisTopology::Sentinel { sentinels, primary, password } => {
                let clients = sentinels.iter().map(client).collect::<RedisResult<Vec<_>>>()?;
                let redis = first(&clients)?;
                let addresses = clients.iter().map(|client| client.get_connection_info().addr().clone()).collect();
                let certificates = sentinels.first().is_some_and(|url| is_tls(url)).then(|| tls.certificates());
                let sentinels = Sentinels { addresses, redis, primary, password, certificates };
                sentinels.client()?;
                Self::Sentinel(Box::new(sentinels))
            }
            RedisTopology::Cluster(urls) => {
                let seeds = urls.iter().map(client).collect::<RedisResult<Vec<_>>>()?;
                let mut builder = ClusterClientBuilder::new(urls.iter().map(String::as_str))
                    .retries(MAX_REDIRECTS)
                    .connection_timeout(NODE_CONNECT_TIMEOUT)
                    .response_timeout(NODE_RESPONSE_TIMEOUT);
                if urls.first().is_some_and(|url| is_tls(url)) {
                    builder = builder.certs(tls.certificates());
                }
                Self::Cluster { client: Box::new(builder.build()?), seeds }
            }
        })
    }

    /// A single server, by its client.
    pub(super) fn of_client(client: Client) -> RedisResult<Self> {
        Ok(Self::Standalone { pool: pool(&client)?, client: Box::new(client) })
    }

    /// Makes a connection for calls.
    pub(super) async fn connect(&self) -> Result<Connection, L2Error> {
        match self {
            Self::Standalone { pool, client } => {
                let connection = (*pool.get().await.map_err(failed)?).clone();
                Ok(Connection::One { address: address_of(client), connection })
            }
            Self::Sentinel(sentinels) => {
                let connecting = async {
                    let client = sentinels.client()?.async_get_client().await?;
                    let connection = client.get_multiplexed_async_connection_with_config(&bounds()).await?;
                    Ok(Connection::One { address: address_of(&client), connection })
                };
                within(DISCOVERY_TIMEOUT, connecting).await
            }
            Self::Cluster { client, .. } => {
                within(DISCOVERY_TIMEOUT, async { Ok(Connection::Cluster(client.get_async_connection().await?)) }).await
            }
        }
    }

    /// Makes a connection for messages only. In a Cluster every node forwards all messages.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, L2Error> {
        match self {
            Self::Standalone { client, .. } => within(CONNECT_TIMEOUT, subscribe(client, channel)).await,
            Self::Sentinel(sentinels) => {
                let subscribing = async { subscribe(&sentinels.client()?.async_get_client().await?, channel).await };
                within(DISCOVERY_TIMEOUT, subscribing).await
            }
            // A random node each time, because the previous one may be frozen.
            Self::Cluster { seeds, .. } => {
                within(CONNECT_TIMEOUT, subscribe(&seeds[fastrand::usize(..seeds.len())], channel)).await
            }
        }
    }

    /// Makes sure that the next connection is a new one. A demoted server still answers on the old
    /// connection, but rejects writes.
    pub(super) fn reset_pool(&self) {
        if let Self::Standalone { pool, .. } = self {
            pool.retain(|_, _| false);
        }
    }

    /// Whether one failed call means that the connection is broken. A connection to a Cluster
    /// survives the loss of one node.
    pub(super) fn is_single_node(&self) -> bool {
        !matches!(self, Self::Cluster { .. })
    }
}

impl Sentinels {
    /// A client without open connections, because an open one might lead to a frozen Sentinel.
    fn client(&self) -> RedisResult<SentinelClient> {
        let redis = self.redis.get_connection_info().redis_settings();
        let addresses = self.addresses.iter().cloned();
        let mut builder = SentinelClientBuilder::new(addresses, &self.primary, SentinelServerType::Master)?
            .set_client_to_redis_db(redis.db());
        if let Some(user) = redis.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = redis.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder.build()
    }
}

fn is_tls(url: &str) -> bool {
    url.starts_with("rediss:")
}

fn first(clients: &[Client]) -> RedisResult<Client> {
    clients
        .first()
        .cloned()
        .ok_or_else(|| (deadpool_redis::redis::ErrorKind::InvalidClientConfig, "no Sentinel is named").into())
}

fn address_of(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

fn bounds() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
}

/// A pool of one connection, which all calls share. It checks the connection and replaces it.
fn pool(client: &Client) -> RedisResult<Pool> {
    let manager = Manager::new_with_config(client.get_connection_info().clone(), bounds())?;
    let timeouts =
        Timeouts { wait: Some(CONNECT_TIMEOUT), create: Some(CONNECT_TIMEOUT), recycle: Some(RESPONSE_TIMEOUT) };
    let config = PoolConfig { max_size: 1, timeouts, ..PoolConfig::default() };
    let pool = Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build();
    pool.map_err(|_| (deadpool_redis::redis::ErrorKind::InvalidClientConfig, "no runtime for the pool").into())
}

async fn subscribe(client: &Client, channel: &str) -> RedisResult<PubSub> {
    let mut listener = client.get_async_pubsub().await?;
    listener.subscribe(channel).await?;
    Ok(listener)
}

async fn within<R>(limit: Duration, making: impl Future<Output = RedisResult<R>>) -> Result<R, L2Error> {
    timeout(limit, making).await.map_err(failed)?.map_err(failed)
}
