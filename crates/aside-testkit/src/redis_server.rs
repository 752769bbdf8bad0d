//! Real Redis servers. Tests that kill, freeze and restart a server have one of their own. All
//! other tests of the process share one, each in a namespace of its own. None outlives the run.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis;

use super::{
    environment::variable,
    process::{Process, TRIES, free_port},
};

/// A redis-server (or valkey-server) on a port of its own, without persistence.
pub struct RedisServer {
    port: u16,
    process: Option<Process>,
}

impl RedisServer {
    /// Starts a server on a free port and waits until it answers.
    pub fn start() -> Self {
        let launched = (0..TRIES).find_map(|_| {
            let port = free_port();
            launch(port).map(|process| Self { port, process: Some(process) })
        });
        launched.unwrap_or_else(|| panic!("no {} came up on a free port in {TRIES} tries", binary().display()))
    }

    /// Returns the shared server, for tests that do not break it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Returns a server that does not run. Redis is absent, but the test may start it on this port
    /// later.
    pub fn absent() -> Self {
        let mut server = Self::start();
        server.kill_9();
        server
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Kills the server, like a crash of its machine. Its contents are lost.
    pub fn kill_9(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            process.wait();
        }
    }

    /// Stops the process without closing its connections.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Continues the process that [`RedisServer::freeze`] stopped.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Starts the server again on the same port, without data.
    pub fn restart(&mut self) {
        self.kill_9();
        self.process = Some(launch(self.port).expect("redis-server starts again on its port"));
    }

    /// Opens a connection for inspection.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("the server's URL");
        client.get_multiplexed_async_connection().await.expect("a connection to redis-server")
    }

    fn signal(&self, name: &str) {
        let sent = self.process.as_ref().is_some_and(|process| process.signal(name));
        assert!(sent, "no redis-server runs that could take SIG{name}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill_9();
    }
}

/// Returns a namespace that no other test of this process uses.
pub fn fresh_namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns the server's binary: `REDIS_SERVER_BIN`, or else the first of the usual names on the
/// path.
pub fn binary() -> PathBuf {
    if let Some(named) = variable("REDIS_SERVER_BIN") {
        return named.into();
    }
    let path = variable("PATH").unwrap_or_default();
    let candidates =
        env::split_paths(&path).flat_map(|folder| [folder.join("redis-server"), folder.join("valkey-server")]);
    candidates.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "no redis-server on PATH: run `make test`, which brings one, or set REDIS_SERVER_BIN=/path/to/redis-server"
        )
    })
}

/// Starts a server and waits until it answers. Returns `None` if it ended instead, for example
/// because another process took the port.
pub fn launch(port: u16) -> Option<Process> {
    let text = port.to_string();
    let args = ["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
    let process = Process::start(&binary(), &args.map(str::to_owned), &[], Path::new("/dev/null"), None);
    process.once_up(|pid| answers(port, pid))
}

/// Returns whether the Redis on this port answers and is the process of this id.
pub fn answers(port: u16, pid: u32) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    if stream.write_all(b"PING\r\nINFO server\r\n").is_err() {
        return false;
    }
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let its_own = format!("process_id:{pid}");
    lines.next().is_some_and(|line| line == "+PONG") && lines.any(|line| line == its_own)
}
