//! Several connected Redis servers for tests that kill, freeze and fail over. They are a primary
//! with two replicas and three Sentinels, or a Cluster of three primaries with one replica each.
//! None outlives the run.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use deadpool_redis::redis::{self, FromRedisValue, RedisResult, aio::MultiplexedConnection};
use futures_util::future::join_all;

use super::{
    eventually::within,
    process::{Process, TRIES, free_port},
    redis_server::{answers, binary},
};

/// The name of the primary among the Sentinels.
pub const PRIMARY: &str = "mymaster";
/// The time that the servers may take on a busy machine until all of them know each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time after which the servers count a silent one as dead, for tests with a failover. Other
/// tests need a longer one, because a server can be silent for a second on a busy machine.
pub const DEAD_SOON: Duration = Duration::from_secs(1);
const SLOTS: u16 = 16_384;

/// The kind of deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sentinel,
    Cluster,
}

/// The servers of a run.
pub struct RedisNodes {
    pub kind: Kind,
    dead_after: Duration,
    binary: PathBuf,
    folder: PathBuf,
    /// The servers that hold data.
    pub nodes: Vec<Node>,
    sentinels: Vec<Node>,
}

/// One server.
pub struct Node {
    pub port: u16,
    /// The port on which the nodes of a Cluster talk to each other.
    bus: u16,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl RedisNodes {
    /// Starts servers for one test.
    pub async fn for_test(kind: Kind, dead_after: Duration) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("aside-nodes-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self::start(kind, dead_after, &binary(), &std::env::temp_dir().join(name)).await
    }

    /// Starts servers of `binary` with their files in `folder`. Returns when
    /// [`RedisNodes::settled`] does.
    pub async fn start(kind: Kind, dead_after: Duration, binary: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder for the servers");
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        let mut this = Self { kind, dead_after, binary, folder, nodes: Vec::new(), sentinels: Vec::new() };
        match kind {
            Kind::Sentinel => this.start_sentinels().await,
            Kind::Cluster => this.start_cluster().await,
        }
        this.settled().await;
        this
    }

    /// Returns the URLs for clients: the Sentinels, or the nodes of the Cluster.
    pub fn urls(&self) -> Vec<String> {
        let named = if self.kind == Kind::Sentinel { &self.sentinels } else { &self.nodes };
        named.iter().map(|node| format!("redis://127.0.0.1:{}", node.port)).collect()
    }

    /// Returns one line for each server, with its role and its process.
    pub fn told(&self) -> Vec<String> {
        let line = |what: &str, node: &Node| {
            let pid = node.process.as_ref().map_or(0, Process::pid);
            format!("{what:<9}127.0.0.1:{}  process {pid}", node.port)
        };
        let sentinels = self.sentinels.iter().map(|node| line("sentinel", node));
        self.nodes.iter().map(|node| line("redis", node)).chain(sentinels).collect()
    }

    /// Returns the index of the primary for a key, as the other servers see it.
    pub async fn primary_of(&self, key: &str) -> Option<usize> {
        let port = match self.kind {
            Kind::Sentinel => {
                let ask = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(PRIMARY).to_owned();
                let (_, port): (String, u16) = self.first_answer(&self.sentinels, &ask).await?;
                port
            }
            Kind::Cluster => {
                let slot: u16 = self.first_answer(&self.nodes, redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?;
                self.table()
                    .await?
                    .lines()
                    .filter(|line| is_primary(line))
                    .find_map(|line| holds(line, slot).then(|| port_of(line)).flatten())?
            }
        };
        self.at(port)
    }

    /// Returns the indexes of the Cluster's primaries that hold slots, as the other servers see
    /// them.
    pub async fn primaries(&self) -> Option<Vec<usize>> {
        let table = self.table().await?;
        let holders = table.lines().filter(|line| is_primary(line) && slots(line).next().is_some());
        Some(holders.filter_map(|line| self.at(port_of(line)?)).collect())
    }

    /// Kills a node, like a crash of its machine.
    pub async fn kill_9(&mut self, node: usize) {
        if let Some(process) = self.nodes[node].process.take() {
            process.kill_9().await;
        }
    }

    /// Sends a signal to one node. `STOP` freezes it. `CONT` lets it continue with its old view of
    /// the others.
    pub fn signal(&self, node: usize, name: &str) {
        if let Some(process) = &self.nodes[node].process {
            process.signal(name);
        }
    }

    /// Starts a killed node again, with its stored view of the others.
    pub async fn launch(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        assert!(launch(&self.binary, node, &self.folder).await, "Redis does not start again on port {}", node.port);
    }

    /// Returns the replicas of a primary.
    pub async fn replicas_of(&self, primary: usize) -> Vec<usize> {
        let info: String = self.ask(primary, redis::cmd("INFO").arg("replication")).await.unwrap_or_default();
        let follows = |node: &Node| info.contains(&format!("port={},", node.port));
        (0..self.nodes.len()).filter(|at| follows(&self.nodes[*at])).collect()
    }

    /// Moves the slot of a key, with all keys in it, from one primary to another.
    pub async fn move_slot(&self, key: &str, from: usize, to: usize) {
        let slot: u16 = self.ask(from, redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)).await.expect("a slot");
        let slot = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let id = async |node| ask::<String>(node, redis::cmd("CLUSTER").arg("MYID")).await.expect("a node's id");
        let (source_id, target_id) = (id(source).await, id(target).await);
        told(target, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        told(source, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        let mut listing = redis::cmd("CLUSTER");
        listing.arg("GETKEYSINSLOT").arg(&slot).arg(100);
        loop {
            let keys: Vec<String> = ask(source, &listing).await.expect("the keys of the slot");
            if keys.is_empty() {
                break;
            }
            for key in &keys {
                let port = target.port.to_string();
                told(source, &["MIGRATE", "127.0.0.1", &port, key, "0", "1000"]).await;
            }
        }
        for node in [target, source] {
            told(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        }
    }

    /// Waits until every node answers, all data have a primary, and each primary has its replicas.
    pub async fn settled(&self) {
        let well = || async {
            let mut replicas = 0;
            for node in &self.nodes {
                let replication: String = ask(node, redis::cmd("INFO").arg("replication")).await?;
                replicas += replication.matches("state=online").count();
                if self.kind == Kind::Cluster {
                    let info: String = ask(node, redis::cmd("CLUSTER").arg("INFO")).await?;
                    let table: String = ask(node, redis::cmd("CLUSTER").arg("NODES")).await?;
                    (info.contains("cluster_state:ok") && !table.contains("fail")).then_some(())?;
                }
            }
            for sentinel in &self.sentinels {
                let quorum: String = ask(sentinel, redis::cmd("SENTINEL").arg("CKQUORUM").arg(PRIMARY)).await?;
                let primary: String = ask(sentinel, redis::cmd("INFO").arg("sentinel")).await?;
                (quorum.starts_with("OK 3") && primary.contains("slaves=2")).then_some(())?;
            }
            (replicas == if self.kind == Kind::Sentinel { 2 } else { 3 }).then_some(())
        };
        within(PATIENCE, "all Redis servers know each other", well).await;
    }

    /// Sends a command to a node.
    pub async fn ask<R: FromRedisValue>(&self, node: usize, command: &redis::Cmd) -> Option<R> {
        ask(&self.nodes[node], command).await
    }

    /// Returns the entry version of each key on a node.
    pub async fn values_of(&self, node: usize) -> HashMap<String, String> {
        let reading = async {
            let mut connection = self.nodes[node].connect().await?;
            // Without `READONLY`, a replica in a Cluster redirects clients to its primary. Other
            // servers do not need the command, and its error does not matter.
            let _ = redis::cmd("READONLY").query_async::<redis::Value>(&mut connection).await;
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await?;
            let value = |key: String| {
                let (mut connection, mut command) = (connection.clone(), redis::cmd("HGET"));
                command.arg(&key).arg("o");
                async move { Some((key, command.query_async::<Option<String>>(&mut connection).await.ok()??)) }
            };
            RedisResult::Ok(join_all(keys.into_iter().map(value)).await.into_iter().flatten().collect())
        };
        let read = tokio::time::timeout(Duration::from_secs(2), reading).await;
        read.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the table of a Cluster's nodes, one per line.
    async fn table(&self) -> Option<String> {
        self.first_answer(&self.nodes, redis::cmd("CLUSTER").arg("NODES")).await
    }

    /// Returns the index of the node on this port.
    fn at(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.port == port)
    }

    async fn first_answer<R: FromRedisValue>(&self, nodes: &[Node], command: &redis::Cmd) -> Option<R> {
        for node in nodes.iter().filter(|node| node.process.is_some()) {
            if let Some(answer) = ask(node, command).await {
                return Some(answer);
            }
        }
        None
    }

    async fn start_sentinels(&mut self) {
        for at in 0..3 {
            let follows =
                (at > 0).then(|| ["--replicaof".to_owned(), "127.0.0.1".to_owned(), self.nodes[0].port.to_string()]);
            let arguments = |port, _| [server(port), follows.iter().flatten().cloned().collect()].concat();
            self.nodes.push(self.started(arguments).await);
        }
        let (primary, dead_after) = (self.nodes[0].port, self.dead_after.as_millis());
        for _ in 0..3 {
            let arguments = |port, _| {
                let file = self.folder.join(format!("sentinel-{port}.conf"));
                let text = format!(
                    "port {port}\nbind 127.0.0.1\nsentinel monitor {PRIMARY} 127.0.0.1 {primary} 2\n\
                     sentinel down-after-milliseconds {PRIMARY} {dead_after}\nsentinel failover-timeout {PRIMARY} 3000\n"
                );
                fs::write(&file, text).expect("a file for the Sentinel");
                vec![file.display().to_string(), "--sentinel".to_owned()]
            };
            self.sentinels.push(self.started(arguments).await);
        }
    }

    async fn start_cluster(&mut self) {
        for _ in 0..6 {
            let arguments = |port, bus: u16| {
                let cluster = [
                    ("--cluster-enabled", "yes".to_owned()),
                    ("--cluster-config-file", format!("{port}-nodes.conf")),
                    ("--cluster-node-timeout", self.dead_after.as_millis().to_string()),
                    ("--cluster-port", bus.to_string()),
                ];
                let cluster = cluster.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
                server(port).into_iter().chain(cluster).collect()
            };
            self.nodes.push(self.started(arguments).await);
        }
        let mut ids: Vec<String> = Vec::new();
        for at in 0..6_u16 {
            let node = &self.nodes[usize::from(at)];
            told(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await;
            if at < 3 {
                let (from, to) = (SLOTS / 3 * at, if at == 2 { SLOTS } else { SLOTS / 3 * (at + 1) });
                told(node, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &(to - 1).to_string()]).await;
            }
            let (port, bus) = (self.nodes[0].port.to_string(), self.nodes[0].bus.to_string());
            if at > 0 {
                told(node, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
            ids.push(ask(node, redis::cmd("CLUSTER").arg("MYID")).await.expect("a node's id"));
        }
        for at in 3..6 {
            // The node must know its primary first.
            let follows = || async {
                let mut command = redis::cmd("CLUSTER");
                command.arg("REPLICATE").arg(&ids[at - 3]);
                ask::<String>(&self.nodes[at], &command).await
            };
            within(PATIENCE, "a node becomes a replica", follows).await;
        }
    }

    /// Starts a server on a free port. `arguments` receives this port and the port of the bus.
    async fn started(&self, arguments: impl Fn(u16, u16) -> Vec<String>) -> Node {
        for _ in 0..TRIES {
            let (port, bus) = (free_port(), free_port());
            let mut node = Node { port, bus, arguments: arguments(port, bus), process: None };
            if launch(&self.binary, &mut node, &self.folder).await {
                return node;
            }
        }
        panic!("no Redis came up on a free port in {TRIES} tries: see {}", self.folder.display());
    }
}

impl Drop for RedisNodes {
    fn drop(&mut self) {
        // The processes write into the folder while they run.
        for process in self.nodes.iter_mut().chain(&mut self.sentinels).filter_map(|node| node.process.take()) {
            process.signal("KILL");
            process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Node {
    /// Opens a connection for inspection.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        client.get_multiplexed_async_connection().await
    }
}

/// Returns the arguments of a server that writes nothing to its disk. It sends its data to a
/// replica without a delay.
fn server(port: u16) -> Vec<String> {
    let port = port.to_string();
    let arguments =
        ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
    arguments.map(str::to_owned).to_vec()
}

/// Starts a node and returns whether it came up.
async fn launch(binary: &Path, node: &mut Node, folder: &Path) -> bool {
    let mut arguments = node.arguments.clone();
    arguments.extend(["--dir".to_owned(), folder.display().to_string()]);
    let (port, log) = (node.port, folder.join(format!("redis-{}.log", node.port)));
    node.process = Process::start(binary, &arguments, &[], &log, None).up(move |pid| answers(port, pid)).await;
    node.process.is_some()
}

async fn told(node: &Node, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    ask::<String>(node, &command).await.unwrap_or_else(|| panic!("{words:?} is not obeyed"));
}

/// Returns the answer of a node, if it comes within a second.
async fn ask<R: FromRedisValue>(node: &Node, command: &redis::Cmd) -> Option<R> {
    let asking = async { command.query_async(&mut node.connect().await?).await };
    tokio::time::timeout(Duration::from_secs(1), asking).await.ok()?.ok()
}

/// Returns whether a line of `CLUSTER NODES` is of a primary that does not count as dead.
fn is_primary(line: &str) -> bool {
    line.contains("master") && !line.contains("fail")
}

/// Returns the ranges of slots in a line of `CLUSTER NODES`.
fn slots(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().skip(8)
}

/// Returns whether a line of `CLUSTER NODES` gives the slot to its node.
fn holds(line: &str, slot: u16) -> bool {
    slots(line).any(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if (from..=to).contains(&slot))
    })
}

/// Returns the port in a line of `CLUSTER NODES`: `id host:port@bus …`.
fn port_of(line: &str) -> Option<u16> {
    line.split_whitespace().nth(1)?.split('@').next()?.rsplit(':').next()?.parse().ok()
}
