//! The program in difficult surroundings: another session holds the migration lock, the database
//! takes no writes, and nothing reads the log.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, PgConnection, PgPool};

use crate::support::{Client, TestApp, eventually, process::free_port, settings};

/// Long, because a busy machine must not turn a tier off.
const MAX_STALENESS: Duration = Duration::from_secs(5);

/// A process of the program whose standard error stays with the test.
struct Started {
    child: Child,
    client: Client,
}

impl Started {
    fn begin(app: &TestApp, more: &[(&str, String)]) -> Self {
        let [public, management] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut config = app.config.clone();
        let options = app.pool.connect_options();
        let server = SocketAddr::from(([127, 0, 0, 1], options.get_port()));
        config.database_url = settings::database_url(&options, server);
        (config.bind_addr, config.management_addr) = (public, management);
        let mut command = Command::new(env!("CARGO_BIN_EXE_aside"));
        command.arg("serve").envs(settings::environment(&config)).envs(more.iter().cloned());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let client = Client::new(public, management, config.management_token);
        Self { child: child.expect("the program starts"), client }
    }

    async fn is_ready(&self) {
        eventually("the process is ready", || self.client.is_current()).await;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lock that sqlx takes while it migrates is held by another session, and the database takes
/// no writes.
#[sqlx::test]
async fn a_start_on_a_migrated_schema_needs_no_lock_and_writes_nothing(pool: PgPool) {
    let app = TestApp::builder(pool.clone()).max_staleness(MAX_STALENESS).build().await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&pool).await.expect("its name");
    let mut migrating = PgConnection::connect_with(&pool.connect_options()).await.expect("a session");
    sqlx::migrate::Migrate::lock(&mut migrating).await.expect("the lock");
    let read_only = format!("alter database \"{name}\" set default_transaction_read_only = on");
    sqlx::query(sqlx::AssertSqlSafe(read_only)).execute(&pool).await.expect("set");
    let started = Started::begin(&app, &[("DATABASE_MIGRATE", "true".into())]);
    started.is_ready().await;
}

/// The pipe takes some tens of kilobytes. Each request leaves a line of its own.
#[sqlx::test]
async fn a_log_that_nothing_reads_stops_nothing(pool: PgPool) {
    let app = TestApp::builder(pool).max_staleness(MAX_STALENESS).build().await;
    let mut started = Started::begin(&app, &[("RUST_LOG", "info".into())]);
    started.is_ready().await;
    for _ in 0..1_000 {
        let answer = tokio::time::timeout(Duration::from_secs(60), started.client.get("/products/1")).await;
        answer.expect("an answer").expect(404);
    }
    // Once it is read again, it goes on.
    let log = started.child.stderr.take().expect("its standard error");
    let lines = BufReader::new(log.take(200_000)).lines().map_while(Result::ok);
    assert!(lines.take(1_000).filter(|line| line.contains("request")).count() > 500, "lines that waited are written");
}
