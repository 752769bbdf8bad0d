//! A real Memcached that the tests of the contract share, each in a namespace of its own. It never outlives the run, however that ends.

use std::{
    env,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::process::{Process, free_port};

/// A memcached on a port of its own.
pub struct MemcachedServer {
    port: u16,
    _process: Process,
}

/// The binary, when the contract is to be run over Memcached too: there is no wheel of it, so not every machine can have one.
/// `make memcached` sees to it.
pub fn binary() -> Option<PathBuf> {
    env::var_os("MEMCACHED_BIN").map(PathBuf::from)
}

impl MemcachedServer {
    /// The server that tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<MemcachedServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let binary = binary().expect("MEMCACHED_BIN names a memcached: run `make memcached`, which brings one");
            let mut tries = (0..5).filter_map(|_| Self::start(&binary));
            tries.next().unwrap_or_else(|| panic!("{} came up on no free port in five tries", binary.display()))
        })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        SocketAddr::from(([127, 0, 0, 1], self.port)).to_string()
    }

    /// Starts one and waits until it accepts connections. `None`: it ended instead, perhaps because somebody took the port.
    fn start(binary: &Path) -> Option<Self> {
        let port = free_port();
        // It refuses to run as root, and is told who to be instead; without root it passes that over.
        let args = ["-l", "127.0.0.1", "-p", &port.to_string(), "-u", "nobody"].map(str::to_owned);
        let mut process = Process::start(binary, &args, &[], Path::new("/dev/null"), None);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if process.has_ended() {
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { port, _process: process });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}
