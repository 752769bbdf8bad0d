//! The servers as processes on the servers' core.

use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use aside_testkit::process::{Process, free_port};
use clap::ValueEnum;

use crate::{contenders::Contender, pin::on_server_core};

const START: Duration = Duration::from_secs(30);

/// A running server. It ends with the run.
pub struct Server {
    process: Process,
    port: u16,
}

impl Server {
    /// An instance of the service.
    pub fn service(name: &str, database_url: &str, redis_url: &str, settings: &[(&'static str, &str)]) -> Self {
        let port = free_port();
        // Without this empty REDIS_URL, the instance would use the variable of the run's
        // environment.
        let mut all = vec![
            ("DATABASE_URL", database_url.to_owned()),
            ("REDIS_URL", redis_url.to_owned()),
            ("BIND_ADDR", format!("127.0.0.1:{port}")),
            ("MANAGEMENT_ADDR", "127.0.0.1:0".to_owned()),
            // The other servers do not seal either. The cost of sealing is measured separately.
            ("CACHE_KEYS", String::new()),
            ("CACHE_NAMESPACE", format!("bench-{name}")),
            ("CACHE_WARM_TOP", "1000".to_owned()),
            ("TOKIO_WORKER_THREADS", "1".to_owned()),
            ("RUST_LOG", "warn".to_owned()),
        ];
        all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let program = Path::new(env!("CARGO_BIN_EXE_aside"));
        Self::start(program, &["serve".to_owned()], &all, port, name)
    }

    /// A server that the service is compared with: this program, called as one.
    pub fn contender(which: Contender, database_url: &str, redis_url: &str, head: &str, body: &str) -> Self {
        let port = free_port();
        let name = which.to_possible_value().expect("a name").get_name().to_owned();
        let args = ["contender".to_owned(), name.clone(), "--port".to_owned(), port.to_string()];
        let all = [
            ("DATABASE_URL", database_url.to_owned()),
            ("REDIS_URL", redis_url.to_owned()),
            ("BENCH_HEAD", head.to_owned()),
            ("BENCH_BODY", body.to_owned()),
            ("TOKIO_WORKER_THREADS", "1".to_owned()),
        ];
        let program = env::current_exe().expect("this program");
        Self::start(&program, &args, &all, port, &name)
    }

    fn start(program: &Path, args: &[String], settings: &[(&str, String)], port: u16, name: &str) -> Self {
        let log = env::temp_dir().join(format!("aside-bench-{}-{name}.log", std::process::id()));
        let process = on_server_core(|| Process::start(program, args, settings, &log, None));
        let server = Self { process, port };
        let begun = Instant::now();
        while std::net::TcpStream::connect(server.address()).is_err() {
            assert!(begun.elapsed() < START, "{name} did not start: see {}", log.display());
            std::thread::sleep(Duration::from_millis(2));
        }
        server
    }

    /// The processor time of the server so far, in microseconds. The system counts it in steps of
    /// 10 ms.
    pub fn processor_time(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // User and system time are fields 14 and 15. Two fields come before the last parenthesis.
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
        (ticks(11) + ticks(12)) * 10_000.0
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Stops the process, so that it leaves its core to others.
    pub fn stop(&self) {
        self.process.signal("STOP");
    }

    pub fn go_on(&self) {
        self.process.signal("CONT");
    }
}
