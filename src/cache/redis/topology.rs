//! Where Redis is: one server, the primary that Sentinels name, or the nodes of a Cluster; and how a connection to it is made. A connection to a
//! single server comes from a deadpool pool. deadpool's managers for Sentinel and Cluster take neither deadlines nor
//! certificates, so connections there are made by the client itself, and everything has an end.

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
use crate::cache::l2::L2Error;

/// Time to connect and shake hands. Longer than the deadline of a call: connecting goes on in the background.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for an answer before the connection counts as dead.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Time to find the servers among those that are named, of which some may be gone, and to connect to them.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The same two times for each node of a Cluster: a frozen one is gone round.
const NODE_CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
const NODE_RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
/// How often a call is sent again to the node that another one named.
const MAX_REDIRECTS: u32 = 2;

/// Where Redis is.
#[derive(Clone)]
pub enum RedisTopology {
    /// One server, by its URL.
    Standalone(String),
    /// The primary of this name, which any of these Sentinels knows.
    Sentinel {
        /// The Sentinels' URLs; user, password and database in the first one are those of Redis.
        sentinels: Vec<String>,
        /// The name by which Sentinels know the primary.
        primary: String,
        /// What the Sentinels themselves ask for.
        password: Option<String>,
    },
    /// A Cluster, of which some nodes are named; the rest is found.
    Cluster(Vec<String>),
}

/// Whom to believe on a connection by TLS (`rediss://`), and who to be. Everything in PEM.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// The authority that signs the server's certificate; `None`: those that the system knows.
    pub authority: Option<Vec<u8>>,
    /// Certificate and key to show the server, if it asks.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisTls {
    fn certificates(&self) -> TlsCertificates {
        let client_tls =
            self.client.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: self.authority.clone() }
    }
}

/// A place whose URLs and certificates were understood.
pub(super) enum Connector {
    Standalone { pool: Pool, client: Box<Client> },
    Sentinel(Box<Sentinels>),
    Cluster { client: Box<ClusterClient>, seeds: Vec<Client> },
}

pub(super) struct Sentinels {
    addresses: Vec<ConnectionAddr>,
    /// Says who to be on the primary.
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
            RedisTopology::Standalone(url) => {
                let client = client(&url)?;
                Self::Standalone { pool: pool(&client)?, client: Box::new(client) }
            }
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

    /// Makes a connection.
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

    /// Makes a connection on which nothing but messages come. In a Cluster every node passes all of them on.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, L2Error> {
        match self {
            Self::Standalone { client, .. } => within(CONNECT_TIMEOUT, subscribe(client, channel)).await,
            Self::Sentinel(sentinels) => {
                let subscribing = async { subscribe(&sentinels.client()?.async_get_client().await?, channel).await };
                within(DISCOVERY_TIMEOUT, subscribing).await
            }
            // Another one each time: the one before may be frozen.
            Self::Cluster { seeds, .. } => {
                within(CONNECT_TIMEOUT, subscribe(&seeds[fastrand::usize(..seeds.len())], channel)).await
            }
        }
    }

    /// Sees to it that the next line is a new one: a server that was demoted answers on the old one, but takes no writes.
    pub(super) fn reset_pool(&self) {
        if let Self::Standalone { pool, .. } = self {
            pool.retain(|_, _| false);
        }
    }

    /// Whether one call that failed says that the connection is dead. A connection to many nodes lives on when one of them dies.
    pub(super) fn is_single_node(&self) -> bool {
        !matches!(self, Self::Cluster { .. })
    }
}

impl Sentinels {
    /// One that has not spoken to anyone: connections that were kept might be those to a frozen Sentinel.
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

/// The pool makes the one connection that all calls share, checks it and makes it anew.
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
