//! Real Redis servers: private ones for tests that kill, freeze and restart them, and one shared by all other tests of the
//! process, each in a namespace of its own. None outlives the run.

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

    /// The server that tests share when they don't break it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A port on which no server runs: Redis is absent, but may be started there later.
    pub fn absent() -> Self {
        let mut server = Self::start();
        server.kill_9();
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Dies like a crashed machine: no farewell, contents lost.
    pub fn kill_9(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            process.wait();
        }
    }

    /// Stops answering while its connections stay open.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Goes on where [`RedisServer::freeze`] stopped it.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        self.kill_9();
        self.process = Some(launch(self.port).expect("redis-server starts again on its port"));
    }

    /// A connection for looking into it.
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

/// A namespace that no other test of this process uses.
pub fn fresh_namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server's binary: `REDIS_SERVER_BIN`, else the first of the usual names on the path.
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

/// Starts a server and waits until it answers. `None`: it has ended instead, for example because somebody took the port meanwhile.
pub fn launch(port: u16) -> Option<Process> {
    let text = port.to_string();
    let args = ["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
    let process = Process::start(&binary(), &args.map(str::to_owned), &[], Path::new("/dev/null"), None);
    process.once_up(|pid| answers(port, pid))
}

/// Whether the Redis on this port answers and is the process of this id.
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
