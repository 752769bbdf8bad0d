//! The setting of Memcached, which may be L2 instead of Redis.

use super::{
    check::is_local_host,
    parsed::{ConfigErrors, Parsed, Parser, rule},
};

/// The Memcached that serves as L2.
#[derive(Clone, Debug)]
pub struct MemcachedConfig {
    /// Host and port.
    pub address: String,
}

impl MemcachedConfig {
    /// Returns whether the connection is protected against reading. It is never encrypted, so it
    /// must stay on this machine.
    pub fn is_transport_secure(&self) -> bool {
        is_local_host(&format!("memcached://{}", self.address))
    }
}

/// The definition of the setting before validation.
#[derive(clap::Args)]
pub struct MemcachedSettings {
    /// A Memcached (1.6 or newer) that serves as L2 instead of Redis. If not set, REDIS_URL
    /// determines L2. It may be down at start.
    #[arg(
        long,
        env = "MEMCACHED_URL",
        value_name = "memcached://127.0.0.1:11211",
        value_parser = memcached_url(),
        help_heading = "Cache",
    )]
    memcached_url: Option<Parsed<MemcachedConfig>>,
}

impl MemcachedSettings {
    /// Checks the setting. The outer `None` means that it is wrong, the inner `None` that there is
    /// no Memcached.
    pub(super) fn check(self, wrong: &mut ConfigErrors) -> Option<Option<MemcachedConfig>> {
        wrong.take_secret("MEMCACHED_URL", self.memcached_url)
    }
}

fn memcached_url() -> impl Parser<MemcachedConfig> {
    rule("must be a URL such as memcached://host:11211", |text| {
        let uri = text.parse::<axum::http::Uri>().ok()?;
        let (host, port) = (uri.host()?, uri.port_u16().unwrap_or(11_211));
        // Memcached has no authentication here, so a user or a password is rejected.
        let given = uri.authority()?.as_str();
        let plain = given == host || given == format!("{host}:{port}");
        let whole = uri.scheme_str() == Some("memcached") && !host.is_empty() && matches!(uri.path(), "" | "/");
        (whole && plain && port > 0 && uri.query().is_none())
            .then(|| MemcachedConfig { address: format!("{host}:{port}") })
    })
}
