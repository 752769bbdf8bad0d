//! The configuration of an instance under test. Only this file knows the fields of `Config` and
//! their environment variables.

use std::time::Duration;

use aside::config::{Config, L2Config, ProxyConfig, RedisConfig};
use sqlx::postgres::PgConnectOptions;

/// The encryption keys of the instances. They are not secret.
pub const KEYS: &str = "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The service's own deadline of L2, for tests in which L2 hangs.
pub const L2_DEADLINE: Duration = Duration::from_millis(20);

/// Returns the settings of one instance: loopback, free ports, a small pool and long limits.
///
/// The staleness bound and the deadline of L2 are long, so that a busy machine cannot turn an
/// expected hit into a load. Tests about these limits set their own.
pub fn config(database_url: String, redis: Option<RedisConfig>, namespace: String) -> Config {
    Config {
        bind_addr: ([127, 0, 0, 1], 0).into(),
        management_addr: ([127, 0, 0, 1], 0).into(),
        management_token: None,
        database_url,
        database_direct_url: None,
        database_read_url: None,
        database_connections: 3,
        migrate: true,
        l2: redis.map(L2Config::Redis),
        cdn: None,
        cache_namespace: namespace,
        cache_l1_bytes: 8 * 1024 * 1024,
        cache_warm_top: 0,
        cache_max_staleness: Duration::from_secs(60),
        // Tests count loads.
        cache_sampled_loads: Duration::ZERO,
        cache_l2_deadline: Duration::from_secs(2),
        cache_keys: Some(KEYS.into()),
        cache_keys_file: None,
        audit_log: None,
        region: "test".into(),
        instance_name: None,
        allow_insecure: false,
        jwt_secret: None,
        jwt_jwks_file: None,
        jwt_audience: "aside".into(),
        jwt_issuer: None,
        tenant_requests_per_second: 0,
        cors_origins: Vec::new(),
        proxies: ProxyConfig::default(),
        max_requests: 2_000,
        request_timeout: Duration::from_secs(30),
        body_limit: 64 * 1024,
        shutdown_drain: Duration::ZERO,
        shutdown_timeout: Duration::from_secs(10),
    }
}

/// Returns the URL of the test's own database, with the proxy's address instead of the server's.
pub fn database_url(options: &PgConnectOptions, through: std::net::SocketAddr) -> String {
    use sqlx::ConnectOptions;
    options.clone().host("127.0.0.1").port(through.port()).to_url_lossy().to_string()
}

/// Returns the environment of a process that serves as an instance with this configuration would.
/// All work but the polls of the ledger uses one connection, so its messages have one order.
pub fn environment(config: &Config) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", config.database_url.clone()),
        ("DATABASE_CONNECTIONS", "2".into()),
        ("DATABASE_MIGRATE", "false".into()),
        ("REDIS_URL", redis(config).map(|redis| redis.urls.join(",")).unwrap_or_default()),
        ("BIND_ADDR", config.bind_addr.to_string()),
        ("MANAGEMENT_ADDR", config.management_addr.to_string()),
        ("MANAGEMENT_TOKEN", config.management_token.clone().unwrap_or_default()),
        ("CACHE_NAMESPACE", config.cache_namespace.clone()),
        ("CACHE_L1_BYTES", config.cache_l1_bytes.to_string()),
        ("CACHE_WARM_TOP", config.cache_warm_top.to_string()),
        ("CACHE_MAX_STALENESS_MS", config.cache_max_staleness.as_millis().to_string()),
        ("CACHE_SAMPLED_LOADS_MS", config.cache_sampled_loads.as_millis().to_string()),
        ("CACHE_KEYS", config.cache_keys.clone().unwrap_or_default()),
        ("REGION", config.region.clone()),
        ("TOKIO_WORKER_THREADS", "2".into()),
        ("RUST_LOG", "warn".into()),
        ("LOG_FORMAT", "text".into()),
    ]
}

/// Returns the Redis of an instance, if it has one.
pub fn redis(config: &Config) -> Option<&RedisConfig> {
    match &config.l2 {
        Some(L2Config::Redis(redis)) => Some(redis),
        _ => None,
    }
}
