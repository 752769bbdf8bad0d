//! The live page, which shows what the cache does in real time. Its files are in the binary and
//! refer to no other host. The data comes from `/cache/live`, a stream of server-sent events, and
//! from the other routes of this listener.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream::unfold};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, interval},
};

use super::{
    Management,
    cache::check_name,
    instances::{Instances, KnownInstance},
    problem::problem,
};
use aside_cache::{Cache, CacheStats, LatencyHistogram, Policy, Tag};

/// The interval between two snapshots.
const PAUSE: Duration = Duration::from_secs(1);
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'; \
     base-uri 'none'; frame-ancestors 'none'",
);

/// The files of the page. They contain no data, so they need no token.
pub const FILES: [&str; 3] = ["/", "/page.js", "/page.css"];

pub async fn show_page() -> Response {
    file("text/html; charset=utf-8", include_str!("assets/index.html"))
}

pub async fn show_script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("assets/page.js"))
}

pub async fn show_style() -> Response {
    file("text/css; charset=utf-8", include_str!("assets/page.css"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, text).into_response()
}

/// The data of the page at one time.
#[derive(Serialize)]
struct Snapshot {
    stats: CacheStats,
    /// This instance and the others.
    instances: Vec<KnownInstance>,
    /// Reads by type, counted by their duration.
    latency: BTreeMap<&'static str, Vec<u64>>,
    /// The upper bounds of those counts in microseconds. The last count has no upper bound.
    bounds_us: Vec<u64>,
}

/// A tag whose version rose in the ledger, or the number of changes that were missed because they
/// came too fast.
#[derive(Serialize)]
struct Change {
    name: Option<String>,
    missed: u64,
}

/// Streams a snapshot each second, and every change when this instance learns of it.
pub async fn stream(State(state): State<Management>) -> Response {
    let live =
        Live { changes: state.cache.changes(), cache: state.cache, instances: state.instances, tick: interval(PAUSE) };
    Sse::new(events(live)).keep_alive(KeepAlive::default()).into_response()
}

struct Live {
    cache: Cache,
    instances: Instances,
    changes: Receiver<Tag>,
    tick: Interval,
}

fn events(live: Live) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(live, async |mut live| {
        let event = tokio::select! {
            _ = live.tick.tick() => event("snapshot", &snapshot(&live.cache, &live.instances)),
            change = live.changes.recv() => match change {
                Ok(name) => event("change", &Change { name: Some(shown(&name, live.cache.policies())), missed: 0 }),
                Err(RecvError::Lagged(missed)) => event("change", &Change { name: None, missed }),
                // The cache has shut down.
                Err(RecvError::Closed) => return None,
            },
        };
        Some((Ok(event), live))
    })
}

fn event(kind: &str, data: &impl Serialize) -> Event {
    Event::default().event(kind).json_data(data).unwrap_or_else(|error| {
        tracing::error!(%error, kind, "an event of the live page can't be written");
        Event::default()
    })
}

fn snapshot(cache: &Cache, instances: &Instances) -> Snapshot {
    Snapshot {
        stats: cache.stats(),
        instances: instances.all(),
        latency: cache.latencies(),
        bounds_us: LatencyHistogram::bounds_us().collect(),
    }
}

/// A tag as the page shows it. It is complete only if it is known to be public, because tags of
/// personal data identify persons.
fn shown(name: &Tag, policies: &[Policy]) -> String {
    let pattern = name.pattern();
    let policy = policies.iter().find(|policy| policy.name == pattern);
    match policy.is_some_and(|policy| !policy.sensitivity.is_personal()) {
        true => name.to_string(),
        false => format!("{pattern}:…"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    name: String,
}

/// Returns the metadata of the L1 entry under a key, without its value, and the version floor of
/// the key.
pub async fn inspect(State(state): State<Management>, wanted: Result<Query<Params>, QueryRejection>) -> Response {
    let Ok(Query(Params { name })) = wanted else {
        return problem(StatusCode::BAD_REQUEST, "Give one name and nothing else: /cache/entry?name=product:42.");
    };
    let patterns: Vec<&str> = state.cache.policies().iter().map(|policy| policy.name).collect();
    match check_name(&name, &patterns) {
        Ok(()) => Json(state.cache.inspect(&Tag::from_ledger(&name))).into_response(),
        Err(rule) => problem(StatusCode::UNPROCESSABLE_ENTITY, &format!("name {rule}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_tenant_is_not_named() {
        for (name, expected) in [
            ("product:42", "product:42"),
            ("order:demo:7", "order:…"),
            ("order-list:demo:749", "order-list:…"),
            ("*:demo:*", "*:…"),
        ] {
            assert_eq!(shown(&Tag::from_ledger(name), &crate::domain::policies()), expected);
        }
    }
}
