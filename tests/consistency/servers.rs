//! The throw-away Postgres and Redis of a run, which never outlive it.

use std::{
    env, fs, io,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use deadpool_redis::redis::{self, aio::MultiplexedConnection};
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use crate::{
    pace::{millis, pause},
    support::{
        eventually,
        process::{Process, User, free_port},
    },
};

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Postgres of the run's own: durable against the death of its processes, not of the machine.
pub struct Postgres {
    folder: PathBuf,
    user: Option<User>,
    process: Option<Process>,
    pub port: u16,
}

impl Postgres {
    pub async fn start(folder: &Path) -> Self {
        let folder = folder.join("postgres");
        fs::create_dir_all(&folder).expect("a folder for Postgres");
        let user = unprivileged();
        if let Some(User(id)) = user {
            chown(&folder, Some(id), Some(id)).expect("the folder is given to the user postgres");
        }
        let mut initdb = Command::new(binary("initdb"));
        initdb
            .args(["-A", "trust", "-U", "aside", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(folder.join("data"));
        initdb.current_dir(&folder).stdout(Stdio::null());
        if let Some(User(id)) = user {
            initdb.uid(id).gid(id);
        }
        assert!(initdb.status().expect("initdb runs").success(), "initdb failed");
        let mut postgres = Self { folder, user, process: None, port: free_port() };
        postgres.launch().await;
        let mut connection = postgres.connect("postgres").await.expect("a connection");
        sqlx::query("create database aside").execute(&mut connection).await.expect("a database");
        postgres
    }

    pub fn url(&self, port: u16) -> String {
        format!("postgres://aside@127.0.0.1:{port}/aside")
    }

    /// Starts it where it left off.
    pub async fn launch(&mut self) {
        let settings = [
            "fsync=off",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=120",
            "shared_buffers=64MB",
            "max_wal_size=2GB",
        ];
        let mut args = vec!["-D".to_owned(), self.folder.join("data").display().to_string()];
        args.extend(["-p".to_owned(), self.port.to_string()]);
        args.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        let log = self.folder.join("log");
        let begun = Instant::now();
        // One that crashed leaves children for a moment, and Postgres doesn't start beside them.
        while begun.elapsed() < PATIENCE {
            let mut process = Process::start(&binary("postgres"), &args, &[], &log, self.user);
            while !process.has_ended() {
                if begun.elapsed() > PATIENCE || self.connect("postgres").await.is_ok() {
                    self.process = Some(process);
                    return;
                }
                pause(millis(20)).await;
            }
            pause(millis(50)).await;
        }
        panic!("Postgres did not start: see {}", log.display());
    }

    /// Stops it, `immediate` (as after a crash, with recovery) or orderly, and starts it again.
    pub async fn restart(&mut self, immediate: bool) {
        self.stop(immediate).await;
        self.launch().await;
    }

    pub async fn stop(&mut self, immediate: bool) {
        if let Some(process) = self.process.take() {
            process.signal(if immediate { "QUIT" } else { "INT" });
            process.ended().await;
        }
    }

    /// Sends a signal to the server and to the processes that serve its connections.
    #[allow(dead_code)] // `make chaos` uses it
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal_with_children(name);
        }
    }

    async fn connect(&self, database: &str) -> Result<sqlx::PgConnection, sqlx::Error> {
        PgConnectOptions::new().host("127.0.0.1").port(self.port).username("aside").database(database).connect().await
    }
}

/// A Redis of the run's own. It writes a dump when it is told to, and only then.
pub struct Redis {
    folder: PathBuf,
    process: Option<Process>,
    pub port: u16,
}

impl Redis {
    pub async fn start(folder: &Path) -> Self {
        let folder = folder.join("redis");
        fs::create_dir_all(&folder).expect("a folder for Redis");
        let mut redis = Self { folder, process: None, port: free_port() };
        redis.launch().await;
        redis
    }

    /// Comes back with the contents of the last dump, or empty.
    pub async fn restart(&mut self, old_dump: bool) {
        self.kill().await;
        if !old_dump {
            let _ = fs::remove_file(self.folder.join("dump.rdb"));
        }
        self.launch().await;
    }

    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill_9().await;
        }
    }

    /// Starts it with what its folder holds.
    pub async fn launch(&mut self) {
        let folder = self.folder.display().to_string();
        let port = self.port.to_string();
        let args = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder];
        let args = args.map(str::to_owned);
        self.process = Some(Process::start(&redis_binary(), &args, &[], &self.folder.join("log"), None));
        eventually("Redis answers", || async { self.connect().await.ok() }).await;
    }

    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal(name);
        }
    }

    pub async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        let connecting = client.get_multiplexed_async_connection();
        let limit = Duration::from_secs(2);
        tokio::time::timeout(limit, connecting)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }
}

/// Postgres refuses to run as root; then it runs as the user that its package made.
fn unprivileged() -> Option<User> {
    let id = |args: &[&str]| {
        let answer = Command::new("id").args(args).output().ok()?;
        String::from_utf8(answer.stdout).ok()?.trim().parse::<u32>().ok()
    };
    match id(&["-u"]) {
        Some(0) => {
            Some(User(id(&["-u", "postgres"]).expect("a user `postgres`, because Postgres refuses to run as root")))
        }
        _ => None,
    }
}

/// A program of Postgres: in `POSTGRES_BIN_DIR`, on the path, or where distributions keep it.
fn binary(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = env::var_os("POSTGRES_BIN_DIR").map(PathBuf::from).into_iter().collect();
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|version| version.path().join("bin")).collect();
    installed.sort();
    folders.extend(installed.into_iter().rev());
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!("no {name} found: install Postgres, or set POSTGRES_BIN_DIR to the folder that has it")
    })
}

fn redis_binary() -> PathBuf {
    if let Some(named) = env::var_os("REDIS_SERVER_BIN") {
        return named.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["redis-server", "valkey-server"];
    let found =
        env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no redis-server on PATH: install one, or set REDIS_SERVER_BIN"))
}
