//! Builds L2, the tier that instances share, from the settings.

use std::{path::PathBuf, sync::Arc};

use aside_cache::{L2, MemcachedL2, RedisL2, RedisTls, RedisTopology};

use super::StartError;
use crate::config::{Config, L2Config, RedisConfig, RedisMode};

/// L2, if one is configured.
pub fn l2(config: &Config) -> Result<Option<Arc<dyn L2>>, StartError> {
    Ok(match &config.l2 {
        Some(L2Config::Redis(config)) => Some(redis(config)?),
        Some(L2Config::Memcached(config)) => Some(Arc::new(MemcachedL2::new(config.address.clone()))),
        None => None,
    })
}

fn redis(config: &RedisConfig) -> Result<Arc<dyn L2>, StartError> {
    let file = |path: &Option<PathBuf>, setting: &str| {
        let unreadable = |error| StartError {
            what: format!("{setting} can't be read: {error}"),
            advice: "Name a file that the service's user may read.".into(),
        };
        path.as_ref().map(|path| std::fs::read(path).map_err(unreadable)).transpose()
    };
    let client = file(&config.cert_file, "REDIS_CERT_FILE")?.zip(file(&config.key_file, "REDIS_KEY_FILE")?);
    let tls = RedisTls { authority: file(&config.ca_file, "REDIS_CA_FILE")?, client };
    let urls = config.urls.clone();
    let place = match config.mode {
        RedisMode::Standalone => RedisTopology::Standalone(urls.into_iter().next().unwrap_or_default()),
        RedisMode::Sentinel => RedisTopology::Sentinel {
            sentinels: urls,
            primary: config.master_name.clone(),
            password: config.sentinel_password.clone(),
        },
        RedisMode::Cluster => RedisTopology::Cluster(urls),
    };
    let redis = RedisL2::new(place, &tls).map_err(|_| StartError {
        // The client's own error message may repeat a URL and thus a password.
        what: "REDIS_URL is not a valid Redis URL, or its certificates are invalid".into(),
        advice: "Write each URL as redis[s]://[user:password@]host:port[/database], all with the same user, password and database; \
                 certificates in PEM."
            .into(),
    })?;
    Ok(Arc::new(redis))
}
