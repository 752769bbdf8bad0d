//! Validates the given settings: the rules of single values, and the rules between settings. It
//! collects every broken rule before it returns.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, FromArgMatches};

use super::{
    Config, L2_DEADLINE, L2Config, LogConfig, LogFormat, Settings,
    parsed::{ConfigErrors, Parsed, Parser, rule},
};

/// The settings that `aside token` signs with.
pub struct TokenSigning {
    pub secret: String,
    pub audience: String,
    pub issuer: Option<String>,
}

impl Settings {
    /// Checks all settings.
    pub fn check(self) -> Result<(Config, LogConfig), ConfigErrors> {
        let mut wrong = ConfigErrors::default();
        let bind_addr = public_addr(&mut wrong, self.bind_addr, self.port);
        let allow_insecure = wrong.take("ALLOW_INSECURE", self.allow_insecure);
        let jwt_secret = wrong.take_secret("JWT_SECRET", self.jwt_secret);
        let jwt_jwks_file = wrong.take_optional("JWT_JWKS_FILE", self.jwt_jwks_file);
        let jwt_audience = wrong.take("JWT_AUDIENCE", self.jwt_audience);
        let jwt_issuer = wrong.take_optional("JWT_ISSUER", self.jwt_issuer);
        let tenant_requests = wrong.take("TENANT_REQUESTS_PER_SECOND", self.tenant_requests_per_second);
        let cors_origins = wrong.take_optional("CORS_ORIGINS", self.cors_origins);
        let proxies = self.proxies.check(&mut wrong);
        let max_requests = wrong.take("MAX_REQUESTS", self.max_requests);
        let request_timeout = wrong.take("REQUEST_TIMEOUT_MS", self.request_timeout_ms);
        let body_limit = wrong.take("BODY_LIMIT_BYTES", self.body_limit_bytes);
        let shutdown_drain = wrong.take("SHUTDOWN_DRAIN_MS", self.shutdown_drain_ms);
        let shutdown_timeout = wrong.take("SHUTDOWN_TIMEOUT_MS", self.shutdown_timeout_ms);
        let management_addr = wrong.take("MANAGEMENT_ADDR", self.management_addr);
        let management_token = wrong.take_secret("MANAGEMENT_TOKEN", self.management_token);
        let database_url = wrong.take_secret("DATABASE_URL", self.database.database_url);
        let database_direct_url = wrong.take_secret("DATABASE_DIRECT_URL", self.database.database_direct_url);
        let database_read_url = wrong.take_secret("DATABASE_READ_URL", self.database.database_read_url);
        let database_connections = wrong.take("DATABASE_CONNECTIONS", self.database.database_connections);
        let migrate = wrong.take("DATABASE_MIGRATE", self.database.database_migrate);
        let redis = self.redis.check(&mut wrong);
        let cdn = self.cdn.check(&mut wrong);
        let memcached = self.memcached.check(&mut wrong);
        let cache_namespace = wrong.take("CACHE_NAMESPACE", self.cache_namespace);
        let cache_l1_bytes = wrong.take("CACHE_L1_BYTES", self.cache_l1_bytes);
        let cache_warm_top = wrong.take("CACHE_WARM_TOP", self.cache_warm_top);
        let cache_max_staleness = wrong.take("CACHE_MAX_STALENESS_MS", self.cache_max_staleness_ms);
        let cache_sampled_loads = wrong.take("CACHE_SAMPLED_LOADS_MS", self.cache_sampled_loads_ms);
        let cache_keys = wrong.take_secret("CACHE_KEYS", self.cache_keys);
        let cache_keys_file = wrong.take_optional("CACHE_KEYS_FILE", self.cache_keys_file);
        let audit_log = wrong.take_optional("AUDIT_LOG", self.audit_log);
        let region = wrong.take("REGION", self.region);
        let instance_name = wrong.take_optional("INSTANCE_NAME", self.instance_name);
        let filter = wrong.take("RUST_LOG", self.rust_log);
        let format = wrong.take_optional("LOG_FORMAT", self.log_format);
        let collector = wrong.take_secret("OTEL_EXPORTER_OTLP_ENDPOINT", self.otel_exporter_otlp_endpoint);

        if let (Some(Some(_)), Some(Some(_))) = (&jwt_secret, &jwt_jwks_file) {
            wrong.add("JWT_JWKS_FILE", "must not be set together with JWT_SECRET", None);
        }
        if let (Some(addr), Some(false), Some(None), Some(None)) =
            (bind_addr, allow_insecure, &jwt_secret, &jwt_jwks_file)
            && !is_loopback(addr)
        {
            let rule = "must be a loopback address, because no identity is verified and every caller belongs to tenant demo; \
                        to be reachable from other machines set JWT_SECRET or JWT_JWKS_FILE or, behind something that authenticates, \
                        ALLOW_INSECURE=true";
            wrong.add("BIND_ADDR", rule, Some(addr.to_string()));
        }
        if let (Some(addr), Some(None)) = (management_addr, &management_token)
            && !is_loopback(addr)
        {
            let rule = "must be set, because MANAGEMENT_ADDR is not a loopback address; at least 16 characters";
            wrong.add("MANAGEMENT_TOKEN", rule, None);
        }
        if database_url == Some(None) {
            let rule = "must be set, for example postgres://aside@127.0.0.1:5432/aside";
            wrong.add("DATABASE_URL", rule, None);
        }
        if let (Some(Some(_)), Some(Some(_))) = (&cache_keys, &cache_keys_file) {
            wrong.add("CACHE_KEYS_FILE", "must not be set together with CACHE_KEYS", None);
        }
        if let (Some(max_staleness), Some(timeout)) = (cache_max_staleness, request_timeout)
            && max_staleness > timeout / 2
        {
            let rule =
                "must be at most half of REQUEST_TIMEOUT_MS: a write that prefers fleet-consistent waits for so long";
            wrong.add("CACHE_MAX_STALENESS_MS", rule, Some(max_staleness.as_millis().to_string()));
        }
        if let (Some(drain), Some(timeout)) = (shutdown_drain, shutdown_timeout)
            && drain > timeout / 2
        {
            let rule = "must be at most half of SHUTDOWN_TIMEOUT_MS: the rest is for requests and writes to finish";
            wrong.add("SHUTDOWN_DRAIN_MS", rule, Some(drain.as_millis().to_string()));
        }

        let keyless = matches!((&cache_keys, &cache_keys_file), (Some(None), Some(None)));
        if let (Some(Some(redis)), Some(false)) = (&redis, allow_insecure)
            && keyless
            && !redis.is_transport_secure()
        {
            let rule = "must begin with rediss:// when Redis is on another machine (as nodes of a Cluster and what Sentinels name may be) and CACHE_KEYS is \
                        not set: what stands there could be read \
                        and changed on the way; on a network that you trust set ALLOW_INSECURE=true";
            wrong.add("REDIS_URL", rule, None);
        }
        if let (Some(Some(memcached)), Some(false)) = (&memcached, allow_insecure)
            && keyless
            && !memcached.is_transport_secure()
        {
            let rule = "must name this machine when CACHE_KEYS is not set, for Memcached's line is plain: what stands there could be read and \
                        changed on the way; on a network that you trust set ALLOW_INSECURE=true";
            wrong.add("MEMCACHED_URL", rule, Some(memcached.address.clone()));
        }
        if let (Some(Some(_)), Some(Some(_))) = (&redis, &memcached) {
            wrong.add("MEMCACHED_URL", "must not be set together with REDIS_URL", None);
        }

        let l2 = || Some(redis?.map(L2Config::Redis).or(memcached?.map(L2Config::Memcached)));
        let checked = || {
            let config = Config {
                bind_addr: bind_addr?,
                management_addr: management_addr?,
                management_token: management_token?,
                database_url: database_url??,
                database_direct_url: database_direct_url?,
                database_read_url: database_read_url?,
                database_connections: database_connections?,
                migrate: migrate?,
                l2: l2()?,
                cdn: cdn?,
                cache_namespace: cache_namespace?,
                cache_l1_bytes: cache_l1_bytes?,
                cache_warm_top: cache_warm_top?,
                cache_max_staleness: cache_max_staleness?,
                cache_sampled_loads: cache_sampled_loads?,
                cache_l2_deadline: L2_DEADLINE,
                cache_keys: cache_keys?,
                cache_keys_file: cache_keys_file?,
                audit_log: audit_log?,
                region: region?,
                instance_name: instance_name?,
                allow_insecure: allow_insecure?,
                jwt_secret: jwt_secret?,
                jwt_jwks_file: jwt_jwks_file?,
                jwt_audience: jwt_audience?,
                jwt_issuer: jwt_issuer?,
                tenant_requests_per_second: tenant_requests?,
                cors_origins: cors_origins?.unwrap_or_default(),
                proxies: proxies?,
                max_requests: max_requests?,
                request_timeout: request_timeout?,
                body_limit: body_limit?,
                shutdown_drain: shutdown_drain?,
                shutdown_timeout: shutdown_timeout?,
            };
            Some((config, LogConfig { filter: filter?, format: format?, collector: collector? }))
        };
        match checked() {
            Some(checked) if wrong.0.is_empty() => Ok(checked),
            _ => Err(wrong),
        }
    }

    /// Returns only the address of the public listener.
    pub fn public_addr(self) -> Result<SocketAddr, ConfigErrors> {
        let mut wrong = ConfigErrors::default();
        public_addr(&mut wrong, self.bind_addr, self.port).ok_or(wrong)
    }

    /// Returns only the settings that tokens are signed with.
    pub fn token_signing(self) -> Result<TokenSigning, ConfigErrors> {
        let mut wrong = ConfigErrors::default();
        let secret = wrong.take_secret("JWT_SECRET", self.jwt_secret);
        let audience = wrong.take("JWT_AUDIENCE", self.jwt_audience);
        let issuer = wrong.take_optional("JWT_ISSUER", self.jwt_issuer);
        if secret == Some(None) {
            wrong.add("JWT_SECRET", "must be set to the value that the service has", None);
        }
        match (secret.flatten(), audience, issuer) {
            (Some(secret), Some(audience), Some(issuer)) => Ok(TokenSigning { secret, audience, issuer }),
            _ => Err(wrong),
        }
    }

    /// Creates settings from pairs of variable and value without reading the environment, for
    /// tests. An empty value counts as not set, as in the environment.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, clap::Error> {
        let command = Self::augment_args(clap::Command::new("aside"));
        let set = pairs.iter().filter(|(_, value)| !value.is_empty());
        let flags = set.map(|(name, value)| format!("--{}={value}", name.to_lowercase().replace('_', "-")));
        let arguments = std::iter::once("aside".to_owned()).chain(flags);
        let matches = command.mut_args(|arg| arg.env(None::<&str>)).try_get_matches_from(arguments)?;
        Self::from_arg_matches(&matches)
    }
}

fn public_addr(wrong: &mut ConfigErrors, addr: Option<Parsed<SocketAddr>>, port: Parsed<u16>) -> Option<SocketAddr> {
    let port = wrong.take("PORT", port);
    match wrong.take_optional("BIND_ADDR", addr)? {
        Some(addr) => Some(addr),
        None => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port?)),
    }
}

/// Returns whether the host of a URL is this machine.
pub(super) fn is_local_host(url: &str) -> bool {
    let host = url.parse::<axum::http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    let address = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    host.is_some_and(|host| host == "localhost" || address(&host).is_some_and(|address| address.is_loopback()))
}

fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

pub fn address() -> impl Parser<SocketAddr> {
    rule("must be an IP address and port such as 127.0.0.1:3000", |text| text.parse().ok())
}

pub fn log_format() -> impl Parser<LogFormat> {
    rule("must be text or json", |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })
}

pub fn token() -> impl Parser<String> {
    rule("must be 16 to 256 visible ASCII characters", |text| {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (visible && (16..=256).contains(&text.len())).then(|| text.to_owned())
    })
}

pub fn jwt_secret() -> impl Parser<String> {
    rule("must be 32 to 1024 visible ASCII characters; make one with: openssl rand -hex 32", |text| {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (visible && (32..=1024).contains(&text.len())).then(|| text.to_owned())
    })
}

pub fn name() -> impl Parser<String> {
    rule("must be 1 to 256 visible ASCII characters", |text| {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (visible && (1..=256).contains(&text.len())).then(|| text.to_owned())
    })
}

pub fn database_url() -> impl Parser<String> {
    rule("must be a URL such as postgres://user:password@host:5432/database", |text| {
        let scheme = text.starts_with("postgres://") || text.starts_with("postgresql://");
        (scheme && text.parse::<sqlx::postgres::PgConnectOptions>().is_ok()).then(|| text.to_owned())
    })
}

pub fn namespace() -> impl Parser<String> {
    rule("must be 1 to 64 letters, digits, '-', '_' or '.'", |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
    })
}

/// Checks only the format, because the cache parses the keys.
pub fn cache_keys() -> impl Parser<String> {
    rule("must be id:64 hex digits, separated by commas; make one with: openssl rand -hex 32", |text| {
        let key = |given: &str| {
            given.split_once(':').is_some_and(|(id, digits)| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                let named = (1..=32).contains(&id.len()) && id.bytes().all(plain);
                named && digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        };
        text.split(',').map(str::trim).all(key).then(|| text.to_owned())
    })
}

pub fn path() -> impl Parser<PathBuf> {
    rule("must be a path", |text| (!text.is_empty()).then(|| PathBuf::from(text)))
}

pub fn region() -> impl Parser<String> {
    rule("must be 1 to 32 lower-case letters, digits or '-'", |text| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((1..=32).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
    })
}

pub fn cors_origins() -> impl Parser<Vec<String>> {
    rule("must be origins such as https://shop.example, separated by commas, without paths or wildcards", |text| {
        text.split(',').map(|origin| is_origin(origin.trim()).then(|| origin.trim().to_owned())).collect()
    })
}

/// Returns whether a text is an origin in the form that browsers send: scheme, host and optional
/// port in lower case, without a path.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']')
    };
    let uri = |host: &str| text.parse::<axum::http::Uri>().is_ok_and(|uri| uri.authority().is_some_and(|a| a == host));
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(allowed) && uri(host))
}

pub fn collector() -> impl Parser<String> {
    rule(
        "must be a URL such as http://127.0.0.1:4318, without user and query; a collector beyond TLS is reached through one nearby",
        |text| is_plain_http(text).then(|| text.to_owned()),
    )
}

/// Returns whether a text is an http URL with a host and without parts that would be secret.
pub fn is_plain_http(text: &str) -> bool {
    text.parse::<axum::http::Uri>().is_ok_and(|uri| {
        let named = uri.authority().is_some_and(|place| !place.host().is_empty() && !place.as_str().contains('@'));
        uri.scheme_str() == Some("http") && named && uri.query().is_none() && !text.contains('#')
    })
}

pub fn log_filter() -> impl Parser<String> {
    rule("must be a level (error, warn, info, debug, trace) or target=level pairs, separated by commas", |text| {
        text.parse::<tracing_subscriber::filter::Targets>().is_ok().then(|| text.to_owned())
    })
}
