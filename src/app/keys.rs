//! The keys that seal what stands in Redis: from CACHE_KEYS, or from a file that may change while the service runs.

use std::{path::Path, time::Duration};

use zeroize::Zeroizing;

use super::StartError;
use crate::{
    cache::{Cache, Keyring},
    config::Config,
};

/// Pause between two looks at the file.
const PAUSE: Duration = Duration::from_secs(2);

/// The configured keys; `None`: there are none.
pub fn read(config: &Config) -> Result<Option<Keyring>, StartError> {
    match (&config.cache_keys, &config.cache_keys_file) {
        (Some(keys), _) => parse(keys, "CACHE_KEYS").map(Some),
        (None, Some(path)) => parse(&load(path)?, "CACHE_KEYS_FILE").map(Some),
        (None, None) => Ok(None),
    }
}

/// Takes the keys from the file again whenever it has changed. One that can't be read or understood changes nothing.
pub async fn follow(cache: Cache, config: Config) {
    let Some(path) = &config.cache_keys_file else { return };
    let mut known = load(path).unwrap_or_default();
    loop {
        tokio::time::sleep(PAUSE).await;
        let path = path.clone();
        // Reading a file blocks.
        let Ok(Ok(text)) = tokio::task::spawn_blocking(move || load(&path)).await else { continue };
        if text == known {
            continue;
        }
        match parse(&text, "CACHE_KEYS_FILE") {
            Ok(keys) => {
                tracing::info!(keys = ?keys.ids(), "other keys seal what stands in Redis");
                cache.change_keys(keys);
            }
            Err(error) => tracing::error!(%error, "the keys of before stay in use"),
        }
        known = text;
    }
}

fn load(path: &Path) -> Result<Zeroizing<String>, StartError> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| StartError {
        what: format!("CACHE_KEYS_FILE can't be read: {error}"),
        advice: "Name a file that the service's user may read.".into(),
    })
}

fn parse(text: &str, setting: &str) -> Result<Keyring, StartError> {
    Keyring::parse(text).map_err(|error| StartError {
        what: format!("{setting}: {error}"),
        advice: "Make a key with: openssl rand -hex 32".into(),
    })
}
