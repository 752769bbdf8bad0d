//! The configuration of an instance under test: the only place that knows the fields of `Config`.

use std::time::Duration;

use aside::config::Config;
use sqlx::postgres::PgConnectOptions;

/// Settings of one instance: loopback, free ports, a small pool, and patience instead of speed.
///
/// The trust lease is long, so that a busy machine can't turn an expected hit into an untrusted load; tests about the lease
/// itself set their own.
pub fn config(database_url: String, redis_url: Option<String>, namespace: String) -> Config {
    Config {
        bind_addr: ([127, 0, 0, 1], 0).into(),
        management_addr: ([127, 0, 0, 1], 0).into(),
        management_token: None,
        database_url,
        database_connections: 3,
        migrate: true,
        redis_url,
        cache_namespace: namespace,
        cache_l1_bytes: 8 * 1024 * 1024,
        cache_warm_top: 0,
        cache_trust: Duration::from_secs(60),
        region: "test".into(),
        allow_insecure: false,
        cors_origins: Vec::new(),
        request_timeout: Duration::from_secs(30),
        body_limit: 64 * 1024,
        shutdown_drain: Duration::ZERO,
        shutdown_timeout: Duration::from_secs(10),
    }
}

/// The URL of the test's own database, with the proxy's address in the place of the server's.
pub fn database_url(options: &PgConnectOptions, through: std::net::SocketAddr) -> String {
    use sqlx::ConnectOptions;
    options.clone().host("127.0.0.1").port(through.port()).to_url_lossy().to_string()
}
