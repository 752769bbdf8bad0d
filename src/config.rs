//! Every setting of the service. Its environment variable, flag, default, rule and documentation
//! are in one place (`settings.rs`). `--help` and `.env.example` are rendered from there. All wrong
//! settings are reported together. Secrets are never printed, neither in reports nor by `Debug`. A
//! variable that is set but empty counts as not set. This module imports nothing else of this
//! crate.

mod cdn;
mod check;
mod database;
mod environment;
mod example;
mod memcached;
mod parsed;
mod proxies;
mod redis_settings;
mod settings;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

pub use cdn::{CdnConfig, CdnTags, PurgeConfig};
pub use check::TokenSigning;
pub use environment::{names_of_variables, without_empty_variables};
pub use example::{env_example, unknown_names};
pub use memcached::MemcachedConfig;
pub use parsed::{ConfigError, ConfigErrors};
pub use proxies::{ForwardedHeader, ProxyConfig};
pub use redis_settings::{RedisConfig, RedisMode};
pub use settings::Settings;

/// The deadline of every call of L2. It is far above the duration of a healthy call, and short
/// enough that a request does not notice it.
const L2_DEADLINE: Duration = Duration::from_millis(20);

/// All settings after validation.
#[derive(Clone)]
pub struct Config {
    pub bind_addr: SocketAddr,
    pub management_addr: SocketAddr,
    pub management_token: Option<String>,
    pub database_url: String,
    /// The same database without a pooler, if `database_url` leads through one.
    pub database_direct_url: Option<String>,
    pub database_read_url: Option<String>,
    pub database_connections: u32,
    pub migrate: bool,
    /// The tier that instances share. `None` means that each instance caches only for itself.
    pub l2: Option<L2Config>,
    /// `None` if there is no shared cache in front of the service.
    pub cdn: Option<CdnConfig>,
    pub cache_namespace: String,
    pub cache_l1_bytes: u64,
    pub cache_warm_top: u32,
    pub cache_max_staleness: Duration,
    /// Zero means that no loads are sampled.
    pub cache_sampled_loads: Duration,
    /// The deadline of every call of L2. It is not a setting, because the same delay is noticeable
    /// everywhere. A test must be able to change it.
    pub cache_l2_deadline: Duration,
    /// The unparsed value, which the cache parses.
    pub cache_keys: Option<String>,
    pub cache_keys_file: Option<PathBuf>,
    pub audit_log: Option<PathBuf>,
    pub region: String,
    /// `None` if the instance is named by its address.
    pub instance_name: Option<String>,
    pub allow_insecure: bool,
    pub jwt_secret: Option<String>,
    pub jwt_jwks_file: Option<PathBuf>,
    pub jwt_audience: String,
    pub jwt_issuer: Option<String>,
    pub tenant_requests_per_second: u32,
    pub cors_origins: Vec<String>,
    pub proxies: ProxyConfig,
    pub max_requests: usize,
    pub request_timeout: Duration,
    pub body_limit: usize,
    pub shutdown_drain: Duration,
    pub shutdown_timeout: Duration,
}

/// The configuration of logs and traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives of `tracing_subscriber::filter::Targets`.
    pub filter: String,
    /// `None` means text on a terminal and JSON otherwise.
    pub format: Option<LogFormat>,
    /// The URL of the trace collector; `None` if there are no traces.
    pub collector: Option<String>,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The tier that instances share.
#[derive(Clone, Debug)]
pub enum L2Config {
    Redis(RedisConfig),
    Memcached(MemcachedConfig),
}

impl L2Config {
    /// The tier's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "Redis",
            Self::Memcached(_) => "Memcached",
        }
    }

    /// Returns whether connections to L2 are protected against reading.
    pub fn is_transport_secure(&self) -> bool {
        match self {
            Self::Redis(redis) => redis.is_transport_secure(),
            Self::Memcached(memcached) => memcached.is_transport_secure(),
        }
    }
}

impl Config {
    /// Returns whether entries in L2 are sealed.
    pub fn seals(&self) -> bool {
        self.cache_keys.is_some() || self.cache_keys_file.is_some()
    }

    /// Returns whether callers must authenticate.
    pub fn verifies_callers(&self) -> bool {
        self.jwt_secret.is_some() || self.jwt_jwks_file.is_some()
    }
}

impl fmt::Debug for Config {
    /// The output shows of a secret only whether it is set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |set: bool| if set { "(set)" } else { "(not set)" };
        f.debug_struct("Config")
            .field("bind_addr", &self.bind_addr)
            .field("management_addr", &self.management_addr)
            .field("management_token", &secret(self.management_token.is_some()))
            .field("database_url", &secret(!self.database_url.is_empty()))
            .field("database_direct_url", &secret(self.database_direct_url.is_some()))
            .field("database_read_url", &secret(self.database_read_url.is_some()))
            .field("database_connections", &self.database_connections)
            .field("migrate", &self.migrate)
            .field("l2", &self.l2)
            .field("cdn", &self.cdn)
            .field("cache_namespace", &self.cache_namespace)
            .field("cache_l1_bytes", &self.cache_l1_bytes)
            .field("cache_warm_top", &self.cache_warm_top)
            .field("cache_max_staleness", &self.cache_max_staleness)
            .field("cache_sampled_loads", &self.cache_sampled_loads)
            .field("cache_l2_deadline", &self.cache_l2_deadline)
            .field("cache_keys", &secret(self.cache_keys.is_some()))
            .field("cache_keys_file", &self.cache_keys_file)
            .field("audit_log", &self.audit_log)
            .field("region", &self.region)
            .field("instance_name", &self.instance_name)
            .field("allow_insecure", &self.allow_insecure)
            .field("jwt_secret", &secret(self.jwt_secret.is_some()))
            .field("jwt_jwks_file", &self.jwt_jwks_file)
            .field("jwt_audience", &self.jwt_audience)
            .field("jwt_issuer", &self.jwt_issuer)
            .field("tenant_requests_per_second", &self.tenant_requests_per_second)
            .field("cors_origins", &self.cors_origins)
            .field("proxies", &self.proxies)
            .field("max_requests", &self.max_requests)
            .field("request_timeout", &self.request_timeout)
            .field("body_limit", &self.body_limit)
            .field("shutdown_drain", &self.shutdown_drain)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests;
