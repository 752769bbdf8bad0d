//! The temporary Redis of a run. It always ends with the run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use deadpool_redis::redis::{self, aio::MultiplexedConnection};

use super::{
    process::{Process, TRIES, free_port},
    redis_server,
};

/// A private Redis of the run. It writes a dump only on request.
pub struct Redis {
    folder: PathBuf,
    process: Option<Process>,
    pub port: u16,
}

impl Redis {
    pub async fn start(folder: &Path) -> Self {
        let folder = folder.join("redis");
        fs::create_dir_all(&folder).expect("a folder for Redis");
        let mut redis = Self { folder, process: None, port: 0 };
        for _ in 0..TRIES {
            redis.port = free_port();
            if redis.comes_up().await {
                return redis;
            }
        }
        panic!("Redis came up on no free port in {TRIES} tries: see {}", redis.folder.display());
    }

    /// Restarts with the contents of the last dump, or empty.
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

    /// Starts the server with the contents of its folder.
    pub async fn launch(&mut self) {
        assert!(self.comes_up().await, "Redis does not start again: see {}", self.folder.display());
    }

    async fn comes_up(&mut self) -> bool {
        let folder = self.folder.display().to_string();
        let port = self.port.to_string();
        let args = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder];
        let args = args.map(str::to_owned);
        let process = Process::start(&redis_server::binary(), &args, &[], &self.folder.join("log"), None);
        let port = self.port;
        self.process = process.up(move |pid| redis_server::answers(port, pid)).await;
        self.process.is_some()
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
