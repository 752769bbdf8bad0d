//! Serves invoices at `LISTEN` from the database at `DATABASE_URL` and, if they are set, the Redis at
//! `REDIS_URL` with the keys in `CACHE_KEYS`. Accesses are recorded in the file `AUDIT_LOG`, or on
//! the standard output.

use std::{
    env,
    error::Error,
    fs::OpenOptions,
    io::{Write, stdout},
    sync::{Arc, mpsc::channel},
    thread,
};

use aside_cache::{Cache, CacheConfig, ConnectionPool, Keyring, L2, RedisL2};
use invoices::{audit::AccessLog, http::router};
use sqlx::postgres::PgPoolOptions;
use tokio::{net::TcpListener, signal::ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let url = variable("DATABASE_URL").ok_or("set DATABASE_URL to a Postgres database of its own")?;
    let db = ConnectionPool::new("Postgres", PgPoolOptions::new().max_connections(10), url.parse()?);
    invoices::migrate(db.inner()).await?;

    let (lines, log) = channel();
    let mut file: Box<dyn Write + Send> = match variable("AUDIT_LOG") {
        Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        None => Box::new(stdout()),
    };
    thread::spawn(move || log.iter().try_for_each(|line: String| writeln!(file, "{line}")));

    let l2 = variable("REDIS_URL");
    let l2 = l2.map(|url| RedisL2::standalone(&url).map(|redis| Arc::new(redis) as Arc<dyn L2>)).transpose()?;
    let config = CacheConfig {
        namespace: "invoices".into(),
        // Without keys, invoices are not stored in Redis, because they are personal data.
        keys: variable("CACHE_KEYS").map(|keys| Keyring::parse(&keys)).transpose()?,
        l2,
        policies: invoices::policies(),
        recorder: Some(Arc::new(AccessLog(lines))),
        ..CacheConfig::default()
    };
    let cache = Cache::start(config, db);

    let listener = TcpListener::bind(variable("LISTEN").unwrap_or("127.0.0.1:8080".into())).await?;
    println!("http://{}/invoices", listener.local_addr()?);
    axum::serve(listener, router(&cache)).with_graceful_shutdown(async { drop(ctrl_c().await) }).await?;
    cache.shutdown().await;
    cache.close_pools().await;
    Ok(())
}
