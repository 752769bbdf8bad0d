//! Real Redis servers: private ones for tests that kill, freeze and restart them, and one shared by all other tests of the
//! process, each in a namespace of its own.
//!
//! A server never outlives the test process, however that ends: a shell waits on a pipe that only this process holds open.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_redis::redis;

use super::process::free_port;

/// A redis-server (or valkey-server) on a port of its own, without persistence.
pub struct RedisServer {
    port: u16,
    guard: Child,
    pid: u32,
    running: bool,
}

impl RedisServer {
    /// Starts a server on a free port and waits until it answers.
    pub fn start() -> Self {
        for _ in 0..5 {
            let port = free_port();
            if let Some((guard, pid)) = launch(port) {
                return Self { port, guard, pid, running: true };
            }
        }
        panic!("no redis-server came up on a free port in five tries");
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
        if self.running {
            signal("KILL", self.pid);
            let _ = self.guard.wait();
            self.running = false;
        }
    }

    /// Stops answering while its connections stay open.
    pub fn freeze(&self) {
        signal("STOP", self.pid);
    }

    /// Goes on where [`RedisServer::freeze`] stopped it.
    pub fn thaw(&self) {
        signal("CONT", self.pid);
    }

    /// Starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        self.kill_9();
        let (guard, pid) = launch(self.port).expect("redis-server starts again on its port");
        self.guard = guard;
        self.pid = pid;
        self.running = true;
    }

    /// A connection for looking into it.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("the server's URL");
        client.get_multiplexed_async_connection().await.expect("a connection to redis-server")
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
    if let Some(named) = env::var_os("REDIS_SERVER_BIN") {
        return named.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates =
        env::split_paths(&path).flat_map(|folder| [folder.join("redis-server"), folder.join("valkey-server")]);
    candidates.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "no redis-server on PATH: run `make test`, which brings one, or set REDIS_SERVER_BIN=/path/to/redis-server"
        )
    })
}

/// Starts a server under its guard. `None` when it does not come up, for example because somebody took the port meanwhile.
fn launch(port: u16) -> Option<(Child, u32)> {
    // The guard says the server's pid, then waits for the end of its own input (this process is gone) or of the server.
    let script = r#"
        "$0" --port "$1" --bind 127.0.0.1 --save "" --appendonly no --daemonize no >/dev/null 2>&1 </dev/null &
        server=$!
        echo "$server"
        exec >/dev/null
        { cat >/dev/null; kill -9 "$server"; } <&3 3<&- &
        exec 3<&-
        wait "$server"
        kill $! 2>/dev/null"#;
    // `3<&0`: background commands of a shell get an empty input, so the pipe is handed down under another number.
    let mut guard = Command::new("sh")
        .args(["-c", &format!("exec 3<&0\n{script}")])
        .arg(binary())
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh starts redis-server");
    let mut line = String::new();
    let output = guard.stdout.take().expect("the guard's output");
    BufReader::new(output).read_line(&mut line).expect("the server's pid");
    let pid: u32 = line.trim().parse().expect("a pid");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        if answers(port) {
            return Some((guard, pid));
        }
        if guard.try_wait().ok().flatten().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    signal("KILL", pid);
    let _ = guard.wait();
    None
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut reply = [0; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut reply).is_ok() && &reply == b"+PONG"
}

fn signal(name: &str, pid: u32) {
    // The shell's own `kill`: the program of that name is missing on a bare machine.
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("a shell");
    assert!(sent.success(), "could not send SIG{name} to redis-server ({pid})");
}
