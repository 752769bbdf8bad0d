//! A real Postgres that belongs to one run, and replicas of it. Tests stop, freeze and kill them.
//! None outlives the run.

use std::{
    env, fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use super::{
    environment::variable,
    process::{Process, TRIES, User, free_port},
};

/// The time that a server may take to start again on its port.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Postgres that belongs to the run. Its data survive the death of its processes, but not of the
/// machine.
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
            chown(&folder, Some(id), Some(id)).expect("the folder is given to Postgres' user");
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
        let mut postgres = Self { folder, user, process: None, port: 0 };
        postgres.launch_on_a_free_port().await;
        let mut connection = postgres.connect("postgres").await.expect("a connection");
        sqlx::query("create database aside").execute(&mut connection).await.expect("a database");
        postgres
    }

    pub fn url(&self, port: u16) -> String {
        format!("postgres://aside@127.0.0.1:{port}/aside")
    }

    /// Creates another server from a copy of this one's files. This server must be stopped, and the
    /// caller has to start the copy.
    pub fn copy(&self, name: &str) -> Self {
        assert!(self.process.is_none(), "a server is copied while it is stopped");
        let folder = self.folder.with_file_name(format!("{name}-of-{}", self.port));
        fs::create_dir_all(&folder).expect("a folder for the copy");
        // The option preserves owners and modes.
        let copied = Command::new("cp").arg("-a").args([&self.folder.join("data"), &folder.join("data")]).status();
        assert!(copied.expect("cp runs").success(), "the data were not copied");
        if let Some(User(id)) = self.user {
            chown(&folder, Some(id), Some(id)).expect("the copy's folder is its own");
        }
        Self { folder, user: self.user, process: None, port: 0 }
    }

    /// Creates a streaming replica from a copy. The server stops for a moment.
    pub async fn replica(&mut self) -> Self {
        self.stop(false).await;
        let mut replica = self.copy("replica");
        let data = replica.folder.join("data");
        fs::write(data.join("standby.signal"), "").expect("the replica knows that it is one");
        let follow = format!("primary_conninfo = 'host=127.0.0.1 port={} user=aside'\n", self.port);
        fs::write(data.join("postgresql.auto.conf"), follow).expect("the replica knows whom to follow");
        if let Some(User(id)) = self.user {
            for file in ["standby.signal", "postgresql.auto.conf"] {
                chown(data.join(file), Some(id), Some(id)).expect("the replica's files are its own");
            }
        }
        self.launch().await;
        replica.launch_on_a_free_port().await;
        replica
    }

    /// Starts the server with its existing data.
    pub async fn launch(&mut self) {
        let begun = Instant::now();
        // A crashed server leaves children for a moment, and Postgres does not start beside them.
        while !self.comes_up().await {
            assert!(begun.elapsed() < PATIENCE, "Postgres does not start: see {}", self.log().display());
        }
    }

    /// Starts the server for the first time.
    pub async fn launch_on_a_free_port(&mut self) {
        for _ in 0..TRIES {
            self.port = free_port();
            if self.comes_up().await {
                return;
            }
        }
        panic!("Postgres came up on no free port in {TRIES} tries: see {}", self.log().display());
    }

    /// Starts the server and returns whether it came up. A server that finds its port taken ends.
    async fn comes_up(&mut self) -> bool {
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
        let process = Process::start(&binary("postgres"), &args, &[], &self.log(), self.user);
        let folder = self.folder.join("data");
        self.process = process.up(move |pid| is_ready(&folder, pid)).await;
        self.process.is_some()
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Stops the server and starts it again. With `immediate` it stops as in a crash and recovers.
    /// Otherwise it stops in order.
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

    /// Sends a signal to the server process alone.
    pub fn signal_server(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal(name);
        }
    }

    /// Sends a signal to the server and to the processes that serve its connections.
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal_with_children(name);
        }
    }

    async fn connect(&self, database: &str) -> Result<sqlx::PgConnection, sqlx::Error> {
        PgConnectOptions::new().host("127.0.0.1").port(self.port).username("aside").database(database).connect().await
    }
}

impl Drop for Postgres {
    /// Ends the server. It writes into its folder while it runs, and its owner removes the folder
    /// next.
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // A frozen process would not react to the next signal.
            process.signal_with_children("CONT");
            process.signal("QUIT");
            process.wait();
        }
    }
}

/// Returns whether the server of this folder accepts connections and is the process of this id. Its
/// file `postmaster.pid` contains the pid in the first line and the state in the last.
fn is_ready(data: &Path, pid: u32) -> bool {
    let notes = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = notes.lines().map(str::trim_end);
    lines.next() == Some(&pid.to_string()) && lines.next_back() == Some("ready")
}

/// Returns the user to run Postgres as, because Postgres refuses to run as root. It is the user
/// that the package created, or `nobody`.
pub(crate) fn unprivileged() -> Option<User> {
    let id = |args: &[&str]| {
        let answer = Command::new("id").args(args).output().ok()?;
        String::from_utf8(answer.stdout).ok()?.trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let user = ["postgres", "nobody"].iter().find_map(|name| id(&["-u", name]));
    Some(User(user.expect("a user `postgres` or `nobody`, because Postgres refuses to run as root")))
}

/// Returns the path of a Postgres program. It is in `POSTGRES_BIN_DIR`, on the path, or in the
/// folder of a distribution.
pub fn binary(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = variable("POSTGRES_BIN_DIR").map(PathBuf::from).into_iter().collect();
    folders.extend(env::split_paths(&variable("PATH").unwrap_or_default()));
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|version| version.path().join("bin")).collect();
    installed.sort();
    folders.extend(installed.into_iter().rev());
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no {name} found: run `make test`, which brings Postgres, or set POSTGRES_BIN_DIR to the folder that has it"
        )
    })
}
