//! The settings of Redis: its addresses, its topology, and its TLS certificates.

use std::{fmt, path::PathBuf};

use super::{
    check::{is_local_host, name, path},
    parsed::{ConfigErrors, Parsed, Parser, rule},
};

/// The Redis that serves as L2.
#[derive(Clone)]
pub struct RedisConfig {
    pub mode: RedisMode,
    /// One URL for a single server, otherwise the URLs of Sentinels or cluster nodes.
    pub urls: Vec<String>,
    /// The name of the primary in the Sentinels' configuration.
    pub master_name: String,
    pub sentinel_password: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// The topology of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisMode {
    Standalone,
    Sentinel,
    Cluster,
}

impl RedisConfig {
    /// A single server without its own certificates.
    pub fn standalone(url: String) -> Self {
        Self {
            mode: RedisMode::Standalone,
            urls: vec![url],
            master_name: "mymaster".into(),
            sentinel_password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    /// Returns whether the connections are protected against reading. They must use TLS or stay on
    /// this machine. Sentinels and cluster nodes may name servers on other machines, so both
    /// require TLS.
    pub fn is_transport_secure(&self) -> bool {
        let stays = |url: &String| self.mode == RedisMode::Standalone && is_local_host(url);
        self.urls.iter().all(|url| url.starts_with("rediss://") || stays(url))
    }
}

impl fmt::Debug for RedisConfig {
    /// URLs may contain passwords, so only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("mode", &self.mode)
            .field("urls", &self.urls.len())
            .field("master_name", &self.master_name)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

/// The definitions of the settings before validation.
#[derive(clap::Args)]
pub struct RedisSettings {
    /// The Redis that serves as L2; rediss:// selects TLS. If not set, there is no L2, unless
    /// MEMCACHED_URL is set. It may be down at start. Separate several Sentinels or nodes of a
    /// Cluster by commas. User and password are those of Redis. Secret.
    #[arg(
        long,
        env = "REDIS_URL",
        value_name = "redis://127.0.0.1:6379",
        value_parser = redis_urls(),
        help_heading = "Cache",
    )]
    redis_url: Option<Parsed<Vec<String>>>,

    /// Topology at REDIS_URL: one server (standalone), Sentinels (sentinel), or nodes of a Cluster
    /// (cluster).
    #[arg(
        long,
        env = "REDIS_MODE",
        value_name = "standalone|sentinel|cluster",
        default_value = "standalone",
        value_parser = mode(),
        help_heading = "Cache",
    )]
    redis_mode: Parsed<RedisMode>,

    /// The name by which the Sentinels know the primary.
    #[arg(
        long,
        env = "REDIS_MASTER_NAME",
        value_name = "NAME",
        default_value = "mymaster",
        value_parser = name(),
        help_heading = "Cache",
    )]
    redis_master_name: Parsed<String>,

    /// The password of the Sentinels themselves, if they require one. Secret.
    #[arg(
        long,
        env = "REDIS_SENTINEL_PASSWORD",
        value_name = "PASSWORD",
        value_parser = name(),
        help_heading = "Cache",
    )]
    redis_sentinel_password: Option<Parsed<String>>,

    /// Certificate (PEM) of the authority that signs the certificate of Redis. If not set, the
    /// system's authorities are trusted.
    #[arg(
        long,
        env = "REDIS_CA_FILE",
        value_name = "PATH",
        value_parser = path(),
        help_heading = "Cache",
    )]
    redis_ca_file: Option<Parsed<PathBuf>>,

    /// Certificate (PEM) of this client, for a Redis that requires one.
    #[arg(
        long,
        env = "REDIS_CERT_FILE",
        value_name = "PATH",
        value_parser = path(),
        help_heading = "Cache",
    )]
    redis_cert_file: Option<Parsed<PathBuf>>,

    /// Its key (PEM).
    #[arg(
        long,
        env = "REDIS_KEY_FILE",
        value_name = "PATH",
        value_parser = path(),
        help_heading = "Cache",
    )]
    redis_key_file: Option<Parsed<PathBuf>>,
}

impl RedisSettings {
    /// Checks the settings. The outer `None` means that a setting is wrong, the inner `None` that
    /// there is no Redis.
    pub(super) fn check(self, wrong: &mut ConfigErrors) -> Option<Option<RedisConfig>> {
        let urls = wrong.take_secret("REDIS_URL", self.redis_url);
        let mode = wrong.take("REDIS_MODE", self.redis_mode);
        let master_name = wrong.take("REDIS_MASTER_NAME", self.redis_master_name);
        let sentinel_password = wrong.take_secret("REDIS_SENTINEL_PASSWORD", self.redis_sentinel_password);
        let ca_file = wrong.take_optional("REDIS_CA_FILE", self.redis_ca_file);
        let cert_file = wrong.take_optional("REDIS_CERT_FILE", self.redis_cert_file);
        let key_file = wrong.take_optional("REDIS_KEY_FILE", self.redis_key_file);
        if let (Some(cert), Some(key)) = (&cert_file, &key_file)
            && cert.is_some() != key.is_some()
        {
            wrong.add("REDIS_KEY_FILE", "must be set when REDIS_CERT_FILE is, and only then", None);
        }
        if let (Some(Some(urls)), Some(RedisMode::Standalone)) = (&urls, mode)
            && urls.len() > 1
        {
            wrong.add("REDIS_URL", "must be one URL unless REDIS_MODE is sentinel or cluster", None);
        }
        if let (Some(Some(urls)), Some(_)) = (&urls, mode)
            && urls.iter().any(|url| url.starts_with("rediss://"))
                != urls.iter().all(|url| url.starts_with("rediss://"))
        {
            wrong.add("REDIS_URL", "must not mix redis:// and rediss://", None);
        }
        if let (Some(Some(_)), Some(RedisMode::Standalone | RedisMode::Cluster)) = (&sentinel_password, mode) {
            wrong.add("REDIS_SENTINEL_PASSWORD", "must only be set when REDIS_MODE is sentinel", None);
        }
        let (urls, mode, master_name) = (urls?, mode?, master_name?);
        let (sentinel_password, ca_file, cert_file, key_file) = (sentinel_password?, ca_file?, cert_file?, key_file?);
        let config = |urls| RedisConfig { mode, urls, master_name, sentinel_password, ca_file, cert_file, key_file };
        Some(urls.map(config))
    }
}

fn mode() -> impl Parser<RedisMode> {
    rule("must be standalone, sentinel or cluster", |text| match text {
        "standalone" => Some(RedisMode::Standalone),
        "sentinel" => Some(RedisMode::Sentinel),
        "cluster" => Some(RedisMode::Cluster),
        _ => None,
    })
}

/// Checks only the format. The client parses the URLs at start, so the driver stays inside the
/// cache.
fn redis_urls() -> impl Parser<Vec<String>> {
    rule("must be a URL such as redis://:password@host:6379/0, or several separated by commas", |text| {
        let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
        urls.iter().all(|url| is_redis_url(url)).then_some(urls)
    })
}

fn is_redis_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<axum::http::Uri>() else { return false };
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else { return false };
    let place = authority.as_str().rsplit('@').next();
    let database = uri.path().strip_prefix('/').is_some_and(|path| path.bytes().all(|byte| byte.is_ascii_digit()));
    let with_port = uri.port_u16().map(|port| format!("{host}:{port}"));
    let named = place == Some(host) || (place.is_some() && place == with_port.as_deref());
    matches!(uri.scheme_str(), Some("redis" | "rediss")) && !host.is_empty() && named && database
}
