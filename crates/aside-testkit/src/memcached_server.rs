//! A real Memcached that the contract tests share, each in a namespace of its own. It never
//! outlives the run, even if the run is killed.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use super::{
    environment::{note_skipped, variable},
    process::{Process, TRIES, free_port},
};

/// A memcached on a port of its own.
pub struct MemcachedServer {
    port: u16,
    _process: Process,
}

/// Returns the binary for the contract over Memcached. No wheel of Memcached exists, so some
/// machines lack it. `make memcached` provides it.
///
/// Without a binary the calling test skips its Memcached part, and this function notes it.
pub fn binary() -> Option<PathBuf> {
    let named = variable("MEMCACHED_BIN").map(PathBuf::from);
    if named.is_none() {
        note_skipped("no memcached");
    }
    named
}

impl MemcachedServer {
    /// Returns the server that tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<MemcachedServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let binary = binary().expect("MEMCACHED_BIN names a memcached: run `make memcached`, which brings one");
            let started = (0..TRIES).find_map(|_| Self::start(&binary));
            started.unwrap_or_else(|| panic!("no {} came up on a free port in {TRIES} tries", binary.display()))
        })
    }

    /// Returns host and port.
    pub fn address(&self) -> String {
        SocketAddr::from(([127, 0, 0, 1], self.port)).to_string()
    }

    /// Starts a server and waits until it answers. Returns `None` if it ended instead, for example
    /// because another process took the port.
    fn start(binary: &Path) -> Option<Self> {
        let port = free_port();
        // Memcached refuses to run as root, so `-u` names another user. Without root it ignores the
        // option.
        let args = ["-l", "127.0.0.1", "-p", &port.to_string(), "-u", "nobody"].map(str::to_owned);
        let process = Process::start(binary, &args, &[], Path::new("/dev/null"), None);
        process.once_up(|pid| answers(port, pid)).map(|process| Self { port, _process: process })
    }
}

/// Returns whether the Memcached on this port answers and is the process of this id.
fn answers(port: u16, pid: u32) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let its_own = format!("STAT pid {pid}");
    stream.write_all(b"stats\r\n").is_ok()
        && BufReader::new(stream).lines().map_while(Result::ok).any(|line| line == its_own)
}
