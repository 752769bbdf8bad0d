//! A shared HTTP cache in the test's own process, as the purger sees it. It accepts purges, refuses
//! them or lets them hang, and it records them.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aside::config::{CdnConfig, CdnTags, Config, PurgeConfig};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
};

/// The response to a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Takes,
    Refuses,
    Hangs,
}

#[derive(Debug)]
struct Log {
    mood: Mood,
    purges: Vec<Vec<String>>,
    refused: usize,
    authorized: BTreeSet<String>,
}

/// A listening endpoint for purges.
pub struct Cdn {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

impl Cdn {
    pub async fn start() -> Self {
        let log = Log { mood: Mood::Takes, purges: Vec::new(), refused: 0, authorized: BTreeSet::new() };
        let log = Arc::new(Mutex::new(log));
        let router = Router::new().fallback(purge).with_state(Arc::clone(&log));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, log }
    }

    /// Returns settings that make instances purge here, with tags in Varnish's format.
    pub fn configure(&self) -> impl Fn(&mut Config) + Send + use<> {
        let url = format!("http://{}/", self.address);
        move |config| {
            let purge = Some(PurgeConfig { url: url.clone(), token: Some("a-token-for-purging".into()) });
            config.cdn = Some(CdnConfig { tags: CdnTags::Xkey, max_age: Duration::from_secs(300), purge });
        }
    }

    pub fn set(&self, mood: Mood) {
        self.log.lock().expect("nobody panics with it").mood = mood;
    }

    /// Counts the successful purges that named this tag.
    pub fn purged(&self, tag: &str) -> usize {
        let log = self.log.lock().expect("nobody panics with it");
        log.purges.iter().filter(|tags| tags.iter().any(|one| one == tag)).count()
    }

    /// Counts the purges that did not succeed.
    pub fn refused(&self) -> usize {
        self.log.lock().expect("nobody panics with it").refused
    }

    /// Returns all tags that were purged.
    pub fn tags(&self) -> BTreeSet<String> {
        self.log.lock().expect("nobody panics with it").purges.iter().flatten().cloned().collect()
    }

    /// Returns the `Authorization` values of all purges.
    pub fn authorized(&self) -> BTreeSet<String> {
        self.log.lock().expect("nobody panics with it").authorized.clone()
    }

    /// Clears the recorded purges and the count of refused ones.
    pub fn forget(&self) {
        let mut log = self.log.lock().expect("nobody panics with it");
        log.purges.clear();
        log.refused = 0;
    }
}

async fn purge(State(log): State<Arc<Mutex<Log>>>, method: Method, headers: HeaderMap) -> StatusCode {
    let mood = {
        let mut log = log.lock().expect("nobody panics with it");
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let tags: Vec<String> = text("xkey-softpurge").split(' ').map(str::to_owned).collect();
        log.authorized.insert(text("authorization").to_owned());
        match log.mood {
            Mood::Takes if method.as_str() == "PURGE" => log.purges.push(tags),
            _ => log.refused += 1,
        }
        log.mood
    };
    match mood {
        Mood::Takes => StatusCode::OK,
        Mood::Refuses => StatusCode::SERVICE_UNAVAILABLE,
        Mood::Hangs => std::future::pending().await,
    }
}
