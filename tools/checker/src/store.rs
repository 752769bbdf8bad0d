//! The Redis of a run: one server, a primary behind Sentinels, or a Cluster.

use std::{io, path::Path, time::Duration};

use clap::ValueEnum;
use deadpool_redis::redis::{self, RedisResult, aio::MultiplexedConnection};

use aside_testkit::private_redis::Redis;
use aside_testkit::{
    redis_nodes::{DEAD_SOON, Kind, RedisNodes},
    redis_server::binary,
};

/// The topology of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Standalone,
    Sentinel,
    Cluster,
}

pub enum Store {
    One(Redis),
    Many(RedisNodes),
}

impl Store {
    pub async fn start(mode: Mode, folder: &Path) -> Self {
        let kind = match mode {
            Mode::Standalone => return Self::One(Redis::start(folder).await),
            Mode::Sentinel => Kind::Sentinel,
            Mode::Cluster => Kind::Cluster,
        };
        Self::Many(RedisNodes::start(kind, DEAD_SOON, &binary(), &folder.join("redis")).await)
    }

    /// The Redis settings of the instances. A single server is behind the instances' proxies, so
    /// its connections can be broken. Several servers report each other's addresses, so instances
    /// connect to them directly.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Many(nodes) => {
                let mode = if nodes.kind == Kind::Sentinel { "sentinel" } else { "cluster" };
                // Entries are not sealed, so that the corruptor finds data that it can change.
                vec![
                    ("REDIS_MODE", mode.to_owned()),
                    ("REDIS_URL", nodes.urls().join(",")),
                    ("ALLOW_INSECURE", "true".to_owned()),
                ]
            }
        }
    }

    /// Its servers, one on a text line.
    pub fn told(&self) -> Vec<String> {
        match self {
            Self::One(redis) => vec![format!("redis    127.0.0.1:{}", redis.port)],
            Self::Many(nodes) => nodes.told(),
        }
    }

    /// A connection to a server that accepts writes. With several servers it is any of these.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let connecting = async {
            match self {
                Self::One(redis) => redis.connect().await,
                Self::Many(nodes) => {
                    let node = nodes.primary_of(&fastrand::u64(..).to_string()).await;
                    nodes.nodes[node.ok_or_else(nobody)?].connect().await
                }
            }
        };
        let limit = Duration::from_secs(2);
        tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(nobody()))
    }

    /// Connections to all servers that answer.
    pub async fn connect_all(&self) -> Vec<MultiplexedConnection> {
        let Self::Many(nodes) = self else { return self.connect().await.into_iter().collect() };
        let mut connections = Vec::new();
        for node in &nodes.nodes {
            let connecting = tokio::time::timeout(Duration::from_secs(1), node.connect());
            connections.extend(connecting.await.ok().and_then(Result::ok));
        }
        connections
    }
}

fn nobody() -> redis::RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
