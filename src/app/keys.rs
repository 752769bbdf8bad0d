//! Keys from the configuration: the keys that seal entries in L2, and the keys that verify tokens.
//! Keys in files may change while the service runs.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use aside_cache::{Cache, Keyring};
use zeroize::Zeroizing;

use super::StartError;
use crate::{
    config::Config,
    http::identity::{Expected, Verifier},
};

/// The interval between two checks of a file.
const PAUSE: Duration = Duration::from_secs(2);

/// The maximum size of a key file. A larger file is not a key file.
const LONGEST: u64 = 64 << 10;

const CACHE_KEYS_FILE: &str = "CACHE_KEYS_FILE";
const JWT_JWKS_FILE: &str = "JWT_JWKS_FILE";

/// The keys that seal entries in L2; `None` if none are configured.
pub fn keyring(config: &Config) -> Result<Option<Keyring>, StartError> {
    let parse = |text: &str, setting: &str| {
        let advice = "Make a key with: openssl rand -hex 32".to_owned();
        Keyring::parse(text).map_err(|error| StartError { what: format!("{setting}: {error}"), advice })
    };
    match (&config.cache_keys, &config.cache_keys_file) {
        (Some(keys), _) => parse(keys, "CACHE_KEYS").map(Some),
        (None, Some(path)) => parse(&load(path, CACHE_KEYS_FILE)?, CACHE_KEYS_FILE).map(Some),
        (None, None) => Ok(None),
    }
}

/// The verifier of tokens; `None` if authentication is off.
pub fn verifier(config: &Config) -> Result<Option<Verifier>, StartError> {
    let expected = Expected { audience: config.jwt_audience.clone(), issuer: config.jwt_issuer.clone() };
    match (&config.jwt_secret, &config.jwt_jwks_file) {
        (Some(secret), _) => Ok(Some(Verifier::with_secret(secret, expected))),
        (None, Some(path)) => {
            let verifier = Verifier::with_key_set(&load(path, JWT_JWKS_FILE)?, expected);
            let wrong = |error| StartError {
                what: format!("{JWT_JWKS_FILE}: {error}"),
                advice: "Take the key set that the issuer of the tokens publishes.".into(),
            };
            verifier.map(Some).map_err(wrong)
        }
        (None, None) => Ok(None),
    }
}

/// Reloads keys from their files whenever these change. A file that can't be read or parsed changes
/// nothing.
pub async fn follow(config: Config, cache: Cache, verifier: Option<Verifier>) {
    let sealing = async {
        let Some(path) = &config.cache_keys_file else { return };
        watch(path, CACHE_KEYS_FILE, |text| {
            Keyring::parse(text).map(|keys| cache.change_keys(keys)).map_err(|error| error.to_string())
        })
        .await;
    };
    let believing = async {
        let (Some(path), Some(verifier)) = (&config.jwt_jwks_file, &verifier) else { return };
        watch(path, JWT_JWKS_FILE, |text| verifier.change_key_set(text).map_err(|error| error.to_string())).await;
    };
    tokio::join!(sealing, believing);
}

async fn watch(path: &Path, setting: &'static str, take: impl Fn(&str) -> Result<(), String>) {
    let mut known = None;
    loop {
        let path = path.to_owned();
        // Reading a file blocks the thread.
        let text = tokio::task::spawn_blocking(move || load(&path, setting).map_err(|wrong| wrong.what)).await;
        let text = text.unwrap_or_else(|_| Err("the file can't be read".into()));
        if known.as_ref() != Some(&text) {
            match text.as_deref().map_err(String::clone).and_then(|text| take(text)) {
                Ok(()) if known.is_some() => tracing::info!(setting, "keys reloaded"),
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(setting, error, "failed to reload keys; continuing with the previous keys")
                }
            }
            known = Some(text);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn load(path: &Path, setting: &str) -> Result<Zeroizing<String>, StartError> {
    let wrong = |what: String, advice: &str| StartError { what: format!("{setting} {what}"), advice: advice.into() };
    let read = || {
        // The full capacity is allocated at once, because the buffers that a growing vector frees
        // are not wiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
        File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let readable = "Name a file that the service's user may read.";
    let bytes = read().map_err(|error| wrong(format!("can't be read: {error}"), readable))?;
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(format!("has more than {LONGEST} bytes"), "Name the file that holds keys and nothing else."));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not text".into(), readable))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_for_keys_is_not_read_to_its_end() {
        let path = std::env::temp_dir().join(format!("aside-keys-{}", uuid::Uuid::now_v7()));
        let longest = "x".repeat(LONGEST as usize);
        std::fs::write(&path, &longest).unwrap();
        assert_eq!(load(&path, CACHE_KEYS_FILE).unwrap().len(), longest.len());
        std::fs::write(&path, longest + "ü").unwrap();
        for path in [path.as_path(), Path::new("/dev/zero")] {
            let wrong = load(path, CACHE_KEYS_FILE).unwrap_err().to_string();
            assert!(
                wrong.contains("CACHE_KEYS_FILE has more than 65536 bytes") && wrong.contains("Name the file"),
                "{wrong}"
            );
        }
        std::fs::remove_file(&path).unwrap();
    }
}
