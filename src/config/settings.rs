//! The definitions of the settings. The doc comment of a field is its documentation in `--help` and
//! in `.env.example`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    LogFormat,
    cdn::CdnSettings,
    check::{
        address, cache_keys, collector, cors_origins, jwt_secret, log_filter, log_format, name, namespace, path,
        region, token,
    },
    database::DatabaseSettings,
    memcached::MemcachedSettings,
    parsed::{Parsed, milliseconds, number, switch},
    proxies::ProxySettings,
    redis_settings::RedisSettings,
};

/// The definitions of the settings before validation.
#[derive(clap::Args)]
pub struct Settings {
    /// Port of the public listener on 127.0.0.1 if BIND_ADDR is not set. 0 selects a free port.
    #[arg(
        long,
        env = "PORT",
        value_name = "3000",
        default_value = "3000",
        value_parser = number::<u16>(0..=65535),
        help_heading = "HTTP",
    )]
    pub(super) port: Parsed<u16>,

    /// Address and port of the public listener. If not set, they are 127.0.0.1 and PORT. An address
    /// other than loopback requires JWT_SECRET, JWT_JWKS_FILE, or ALLOW_INSECURE=true.
    #[arg(
        long,
        env = "BIND_ADDR",
        value_name = "127.0.0.1:3000",
        value_parser = address(),
        help_heading = "HTTP",
    )]
    pub(super) bind_addr: Option<Parsed<SocketAddr>>,

    /// Whether other machines may reach the public listener although no identity is verified: every
    /// caller belongs to tenant `demo`. Use it only behind a proxy that authenticates. It also
    /// allows a Redis on another machine, Sentinels and a Cluster without TLS and CACHE_KEYS.
    #[arg(
        long,
        env = "ALLOW_INSECURE",
        value_name = "true|false",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = switch(),
        help_heading = "HTTP",
    )]
    pub(super) allow_insecure: Parsed<bool>,

    /// Secret that signs the tokens of callers (HS256): 32 to 1024 visible ASCII characters. With
    /// it or JWT_JWKS_FILE, orders and changes of the catalogue require a token of a tenant.
    /// Secret.
    #[arg(
        long,
        env = "JWT_SECRET",
        value_name = "SECRET",
        value_parser = jwt_secret(),
        help_heading = "Identity",
    )]
    pub(super) jwt_secret: Option<Parsed<String>>,

    /// A JSON Web Key Set of the token issuers (RS256, ES256), instead of JWT_SECRET. A change of
    /// the file is read within seconds.
    #[arg(
        long,
        env = "JWT_JWKS_FILE",
        value_name = "PATH",
        value_parser = path(),
        help_heading = "Identity",
    )]
    pub(super) jwt_jwks_file: Option<Parsed<PathBuf>>,

    /// Audience that tokens must name.
    #[arg(
        long,
        env = "JWT_AUDIENCE",
        value_name = "NAME",
        default_value = "aside",
        value_parser = name(),
        help_heading = "Identity",
    )]
    pub(super) jwt_audience: Parsed<String>,

    /// Issuer that tokens must name. If not set, every issuer with a key is accepted.
    #[arg(
        long,
        env = "JWT_ISSUER",
        value_name = "NAME",
        value_parser = name(),
        help_heading = "Identity",
    )]
    pub(super) jwt_issuer: Option<Parsed<String>>,

    /// How many requests that require a token a tenant may send to an instance per second, and at
    /// once. Further requests get a 429. 0 means no limit.
    #[arg(
        long,
        env = "TENANT_REQUESTS_PER_SECOND",
        value_name = "COUNT",
        default_value = "1000",
        value_parser = number::<u32>(0..=1_000_000),
        help_heading = "Identity",
    )]
    pub(super) tenant_requests_per_second: Parsed<u32>,

    /// Origins whose pages may call the service from a browser, separated by commas. If not set,
    /// CORS is off.
    #[arg(
        long,
        env = "CORS_ORIGINS",
        value_name = "https://shop.example",
        value_parser = cors_origins(),
        help_heading = "HTTP",
    )]
    pub(super) cors_origins: Option<Parsed<Vec<String>>>,

    #[command(flatten)]
    pub(super) proxies: ProxySettings,

    /// How many reads of resources an instance has in memory at a time, including those that wait
    /// for Postgres. Further reads get a 503 at once. This limits only memory: REQUEST_TIMEOUT_MS
    /// limits how long a read waits.
    #[arg(
        long,
        env = "MAX_REQUESTS",
        value_name = "COUNT",
        default_value = "8192",
        value_parser = number::<usize>(1..=100_000),
        help_heading = "HTTP",
    )]
    pub(super) max_requests: Parsed<usize>,

    /// Time limit of one request, from its headers to its answer, in milliseconds.
    #[arg(
        long,
        env = "REQUEST_TIMEOUT_MS",
        value_name = "MS",
        default_value = "10000",
        value_parser = milliseconds(100..=600_000),
        help_heading = "HTTP",
    )]
    pub(super) request_timeout_ms: Parsed<Duration>,

    /// Maximum size of a request body in bytes.
    #[arg(
        long,
        env = "BODY_LIMIT_BYTES",
        value_name = "BYTES",
        default_value = "65536",
        value_parser = number::<usize>(1024..=16_777_216),
        help_heading = "HTTP",
    )]
    pub(super) body_limit_bytes: Parsed<usize>,

    /// How long readiness answers 503 before the listener closes at shutdown, in milliseconds. Load
    /// balancers notice it within two probe intervals. It is part of SHUTDOWN_TIMEOUT_MS.
    #[arg(
        long,
        env = "SHUTDOWN_DRAIN_MS",
        value_name = "MS",
        default_value = "0",
        value_parser = milliseconds(0..=600_000),
        help_heading = "HTTP",
    )]
    pub(super) shutdown_drain_ms: Parsed<Duration>,

    /// Time limit of the whole shutdown in milliseconds. Unfinished work is cut off.
    #[arg(
        long,
        env = "SHUTDOWN_TIMEOUT_MS",
        value_name = "MS",
        default_value = "10000",
        value_parser = milliseconds(100..=600_000),
        help_heading = "HTTP",
    )]
    pub(super) shutdown_timeout_ms: Parsed<Duration>,

    /// Address and port of the management listener (metrics, cache administration). It must never
    /// be public. An address other than loopback requires MANAGEMENT_TOKEN.
    #[arg(
        long,
        env = "MANAGEMENT_ADDR",
        value_name = "127.0.0.1:3001",
        default_value = "127.0.0.1:3001",
        value_parser = address(),
        help_heading = "Management",
    )]
    pub(super) management_addr: Parsed<SocketAddr>,

    /// Bearer token that every request to the management listener must carry. Not set: none is
    /// required. Secret.
    #[arg(
        long,
        env = "MANAGEMENT_TOKEN",
        value_name = "TOKEN",
        value_parser = token(),
        help_heading = "Management",
    )]
    pub(super) management_token: Option<Parsed<String>>,

    #[command(flatten)]
    pub(super) database: DatabaseSettings,

    #[command(flatten)]
    pub(super) redis: RedisSettings,

    #[command(flatten)]
    pub(super) memcached: MemcachedSettings,

    /// First segment of every key in L2. It separates services that share one L2.
    #[arg(
        long,
        env = "CACHE_NAMESPACE",
        value_name = "NAME",
        default_value = "aside",
        value_parser = namespace(),
        help_heading = "Cache",
    )]
    pub(super) cache_namespace: Parsed<String>,

    /// Capacity of L1 (in process) in bytes. The default is 64 MiB, and 0 switches L1 off.
    #[arg(
        long,
        env = "CACHE_L1_BYTES",
        value_name = "BYTES",
        default_value = "67108864",
        value_parser = number::<u64>(0..=1 << 40),
        help_heading = "Cache",
    )]
    pub(super) cache_l1_bytes: Parsed<u64>,

    /// How many of the most viewed products are warmed before readiness turns green. 0 warms none.
    #[arg(
        long,
        env = "CACHE_WARM_TOP",
        value_name = "COUNT",
        default_value = "100",
        value_parser = number::<u32>(0..=10_000),
        help_heading = "Cache",
    )]
    pub(super) cache_warm_top: Parsed<u32>,

    /// D: how long after its last poll of the ledger an instance may still answer from its tiers, in milliseconds.
    #[arg(
        long,
        env = "CACHE_MAX_STALENESS_MS",
        value_name = "MS",
        default_value = "500",
        value_parser = milliseconds(100..=10_000),
        help_heading = "Cache",
    )]
    pub(super) cache_max_staleness_ms: Parsed<Duration>,

    /// Pause between two loads of each cached type that only compare an answer of Redis with
    /// Postgres, in milliseconds. They find changes that raised no tag. 0 means no such loads.
    #[arg(
        long,
        env = "CACHE_SAMPLED_LOADS_MS",
        value_name = "MS",
        default_value = "1000",
        value_parser = milliseconds(0..=3_600_000),
        help_heading = "Cache",
    )]
    pub(super) cache_sampled_loads_ms: Parsed<Duration>,

    /// Keys that seal entries in L2, separated by commas. The first key seals, and all keys open.
    /// Without keys, L2 stores no orders and the catalogue unsealed. Secret.
    #[arg(
        long,
        env = "CACHE_KEYS",
        value_name = "ID:64 HEX DIGITS",
        value_parser = cache_keys(),
        help_heading = "Cache",
    )]
    pub(super) cache_keys: Option<Parsed<String>>,

    /// A file of such keys, one per line, instead of CACHE_KEYS. A change is read within seconds.
    #[arg(
        long,
        env = "CACHE_KEYS_FILE",
        value_name = "PATH",
        value_parser = path(),
        help_heading = "Cache",
    )]
    pub(super) cache_keys_file: Option<Parsed<PathBuf>>,

    #[command(flatten)]
    pub(super) cdn: CdnSettings,

    /// File in which accesses to orders are recorded, in a chain that reveals changes and removals.
    /// If not set, accesses are not recorded.
    #[arg(
        long,
        env = "AUDIT_LOG",
        value_name = "PATH",
        value_parser = path(),
        help_heading = "Operation",
    )]
    pub(super) audit_log: Option<Parsed<PathBuf>>,

    /// The region in which this instance runs.
    #[arg(
        long,
        env = "REGION",
        value_name = "NAME",
        default_value = "local",
        value_parser = region(),
        help_heading = "Operation",
    )]
    pub(super) region: Parsed<String>,

    /// Name of this instance on the live page. Not set: the address of the public listener.
    #[arg(
        long,
        env = "INSTANCE_NAME",
        value_name = "NAME",
        value_parser = namespace(),
        help_heading = "Operation",
    )]
    pub(super) instance_name: Option<Parsed<String>>,

    /// Filter of the log: a level, or target=level pairs separated by commas.
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "FILTER",
        default_value = "info,sqlx=warn",
        value_parser = log_filter(),
        help_heading = "Operation",
    )]
    pub(super) rust_log: Parsed<String>,

    /// Format of the log: text or json. If not set, it is text on a terminal and JSON otherwise.
    #[arg(
        long,
        env = "LOG_FORMAT",
        value_name = "json",
        value_parser = log_format(),
        help_heading = "Operation",
    )]
    pub(super) log_format: Option<Parsed<LogFormat>>,

    /// Collector of traces: base URL of an OTLP receiver over HTTP. Not set: no traces.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "http://127.0.0.1:4318",
        value_parser = collector(),
        help_heading = "Operation",
    )]
    pub(super) otel_exporter_otlp_endpoint: Option<Parsed<String>>,
}
