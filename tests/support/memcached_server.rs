//! A real Memcached that the tests of the contract share, each in a namespace of its own. It never outlives the run, however that ends.

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

/// The binary, when the contract is to be run over Memcached too: there is no wheel of it, so not every machine can have one.
/// `make memcached` sees to it. Without one the test that asks skips what it would do with it, and that is noted.
pub fn binary() -> Option<PathBuf> {
    let named = variable("MEMCACHED_BIN").map(PathBuf::from);
    if named.is_none() {
        note_skipped("no memcached");
    }
    named
}

impl MemcachedServer {
    /// The server that tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<MemcachedServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let binary = binary().expect("MEMCACHED_BIN names a memcached: run `make memcached`, which brings one");
            let started = (0..TRIES).find_map(|_| Self::start(&binary));
            started.unwrap_or_else(|| panic!("no {} came up on a free port in {TRIES} tries", binary.display()))
        })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        SocketAddr::from(([127, 0, 0, 1], self.port)).to_string()
    }

    /// Starts one and waits until it answers. `None`: it has ended instead, perhaps because somebody took the port.
    fn start(binary: &Path) -> Option<Self> {
        let port = free_port();
        // It refuses to run as root, and is told who to be instead; without root it passes that over.
        let args = ["-l", "127.0.0.1", "-p", &port.to_string(), "-u", "nobody"].map(str::to_owned);
        let process = Process::start(binary, &args, &[], Path::new("/dev/null"), None);
        process.once_up(|pid| answers(port, pid)).map(|process| Self { port, _process: process })
    }
}

/// Whether the Memcached on this port answers and is the process of this id.
fn answers(port: u16, pid: u32) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let its_own = format!("STAT pid {pid}");
    stream.write_all(b"stats\r\n").is_ok()
        && BufReader::new(stream).lines().map_while(Result::ok).any(|line| line == its_own)
}
