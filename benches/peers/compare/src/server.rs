//! The compared servers, as processes on a separate core, and the client as a process on the other
//! core.

use std::{
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    pin::on_servers_core,
    process::{Process, free_port},
};

const START: Duration = Duration::from_secs(30);

/// A program with its settings.
#[derive(Clone)]
pub struct Program {
    /// Its name in tables.
    pub name: &'static str,
    file: PathBuf,
    args: Vec<String>,
    settings: Vec<(&'static str, String)>,
    /// A path that answers 200 when the program is ready.
    ready: String,
}

impl Program {
    /// An instance of the service, of this build.
    pub fn aside(name: &'static str, file: &Path, database_url: &str, redis_url: &str) -> Self {
        // Without this empty REDIS_URL, the instance would use the variable of the run's
        // environment.
        let settings = [
            ("DATABASE_URL", database_url),
            ("REDIS_URL", redis_url),
            ("MANAGEMENT_ADDR", "127.0.0.1:0"),
            ("CACHE_NAMESPACE", "peers"),
            ("CACHE_WARM_TOP", "0"),
            // No other program seals its values in Redis.
            ("CACHE_KEYS", ""),
            ("RUST_LOG", "warn"),
        ];
        Self {
            name,
            file: file.to_owned(),
            args: vec!["serve".to_owned()],
            settings: settings.map(|(name, value)| (name, value.to_owned())).into(),
            ready: "/readyz".to_owned(),
        }
    }

    /// A program of this workspace. `ready` is a path that it answers.
    pub fn peer(name: &'static str, file: &str, database_url: &str, redis_url: &str, ready: &str) -> Self {
        Self {
            name,
            file: peers_folder().join(file),
            args: Vec::new(),
            settings: vec![("DATABASE_URL", database_url.to_owned()), ("REDIS_URL", redis_url.to_owned())],
            ready: ready.to_owned(),
        }
    }

    /// The same program with another setting.
    pub fn with(mut self, setting: &'static str, value: &str) -> Self {
        self.settings.push((setting, value.to_owned()));
        self
    }

    /// Starts it with one worker thread, and waits until it is ready.
    pub fn start(&self) -> Server {
        let port = free_port();
        let mut settings = self.settings.clone();
        settings.extend([
            ("PORT", port.to_string()),
            ("BIND_ADDR", format!("127.0.0.1:{port}")),
            ("TOKIO_WORKER_THREADS", "1".to_owned()),
        ]);
        let log = env::temp_dir().join(format!("aside-peers-{}-{port}.log", std::process::id()));
        let process = on_servers_core(|| Process::start(&self.file, &self.args, &settings, &log, None));
        let mut server = Server { process, port, log };
        let begun = Instant::now();
        while !server.answers(&self.ready) {
            let up = !server.process.has_ended() && begun.elapsed() < START;
            assert!(up, "{} did not start: {}", self.name, fs::read_to_string(&server.log).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(2));
        }
        server
    }
}

/// A running server. It ends when this value is dropped.
pub struct Server {
    process: Process,
    port: u16,
    log: PathBuf,
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0
    }

    fn answers(&self, path: &str) -> bool {
        self.get(path).is_ok_and(|(head, _)| head.starts_with("HTTP/1.1 200"))
    }

    /// Head and body of an answer.
    pub fn get(&self, path: &str) -> std::io::Result<(String, String)> {
        let mut stream = TcpStream::connect(self.address())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        Ok((head.to_owned(), body.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.signal("KILL");
        let _ = fs::remove_file(&self.log);
    }
}

/// The result of one run of the client.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The number of successful answers, and their rate a second.
    pub answered: f64,
    pub rate: f64,
    /// Times of successful answers, in milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// The number of 503 answers, and the longest time of one, in milliseconds.
    pub refused: f64,
    pub refused_max: f64,
    /// All other requests: other statuses, and requests without an answer.
    pub failed: f64,
}

/// A run of the client that has not ended.
pub struct Running(std::process::Child);

/// Starts the client with these arguments. It sends requests for `paths`.
pub fn begin_load(address: SocketAddr, args: &[String], paths: &[String]) -> Running {
    let mut command = Command::new(peers_folder().join("load"));
    command.arg(address.to_string()).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the client starts");
    let mut input = child.stdin.take().expect("the client's input");
    input.write_all(paths.join("\n").as_bytes()).expect("the paths are written");
    Running(child)
}

impl Running {
    /// Waits for the end of the run.
    pub fn end(self) -> Sample {
        let output = self.0.wait_with_output().expect("the client ends");
        assert!(output.status.success(), "the client failed");
        let found: Value = serde_json::from_slice(&output.stdout).expect("what the client says");
        let statuses = found["status"].as_object().expect("statuses");
        let count = |wanted: &dyn Fn(&str) -> bool| {
            let counts = statuses.iter().filter(|(status, _)| wanted(status)).map(|(_, of)| of["count"].as_f64());
            counts.fold(0.0, |sum, count| sum + count.unwrap_or(f64::NAN))
        };
        let figure = |status: &str, what: &str| statuses.get(status).and_then(|of| of[what].as_f64());
        let millis = |status: &str, what: &str| figure(status, what).unwrap_or(f64::NAN) / 1e3;
        Sample {
            answered: count(&|status| status == "200"),
            rate: figure("200", "rate").unwrap_or(0.0),
            p50: millis("200", "p50"),
            p99: millis("200", "p99"),
            refused: count(&|status| status == "503"),
            refused_max: millis("503", "max"),
            failed: count(&|status| status != "200" && status != "503"),
        }
    }
}

/// The folder of the built programs of this workspace.
fn peers_folder() -> PathBuf {
    Path::new(&variable("PEERS_FOLDER")).to_owned()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} isn't set: run scripts/peers.sh"))
}
