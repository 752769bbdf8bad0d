//! A real PgBouncer in transaction mode between a test and its Postgres. It never outlives the run,
//! even if the run is killed.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use sqlx::postgres::PgConnectOptions;

use super::{
    environment::{note_skipped, variable},
    postgres_server::unprivileged,
    process::{Process, TRIES, User, free_port},
    temporary::Temporary,
};

/// A PgBouncer on a port of its own. Every database of the server behind it can be reached.
pub struct PgBouncer {
    port: u16,
    _process: Process,
    _folder: Temporary,
}

/// Returns the binary, or `None` where there is none. The calling test then skips its part through
/// PgBouncer, and this function notes it. `make pgbouncer` provides the binary.
pub fn binary() -> Option<PathBuf> {
    let named = variable("PGBOUNCER_BIN").map(PathBuf::from);
    if named.is_none() {
        note_skipped("no pgbouncer");
    }
    named
}

impl PgBouncer {
    /// Starts a PgBouncer before the server with these options. It shares `connections` connections
    /// of the server among all clients, by transaction. It lets no start-up parameter pass that it
    /// does not know.
    pub async fn before(server: &PgConnectOptions, password: Option<&str>, connections: u32) -> Self {
        let binary = binary().expect("PGBOUNCER_BIN names a pgbouncer: run `make pgbouncer`, which brings one");
        for _ in 0..TRIES {
            if let Some(started) = Self::start(&binary, server, password, connections).await {
                return started;
            }
        }
        panic!("no {} came up on a free port in {TRIES} tries", binary.display());
    }

    /// Returns the address, as the options of a client.
    pub fn options(&self, server: &PgConnectOptions) -> PgConnectOptions {
        server.clone().host("127.0.0.1").port(self.port)
    }

    async fn start(binary: &Path, server: &PgConnectOptions, password: Option<&str>, connections: u32) -> Option<Self> {
        let (port, folder) = (free_port(), Temporary::folder("pgbouncer"));
        let login = password.map_or_else(String::new, |password| format!(" password={password}"));
        let (host, behind, user) = (server.get_host(), server.get_port(), server.get_username());
        let settings = format!(
            "[databases]\n* = host={host} port={behind} user={user}{login}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = {connections}\nmax_client_conn = 500\n"
        );
        let (ini, log) = (folder.join("pgbouncer.ini"), folder.join("log"));
        fs::write(&ini, settings).expect("the settings of PgBouncer");
        fs::write(&log, "").expect("the log of PgBouncer");
        // PgBouncer refuses to run as root, as Postgres does.
        let user = unprivileged();
        if let Some(User(id)) = user {
            for path in [&*folder, &ini, &log] {
                chown(path, Some(id), Some(id)).expect("the files of PgBouncer are its own");
            }
        }
        let process = Process::start(binary, &[ini.display().to_string()], &[], &log, user);
        let process = process.up(move |_| TcpStream::connect(("127.0.0.1", port)).is_ok()).await?;
        Some(Self { port, _process: process, _folder: folder })
    }
}
