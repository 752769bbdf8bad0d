//! The live page, which shows what the cache does in real time. Its files are in the binary and
//! refer to no other host. The data comes from `/cache/live`, a stream of server-sent events, and
//! from the other routes of this listener.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use aside_cache::{Cache, CacheStats, LatencyHistogram, Policy, Tag};
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream::unfold};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, interval, sleep},
};

use super::{
    Management,
    cache::check_name,
    headline::Headline,
    history::{self, History, SOURCES, Second},
    instances::{Instances, KnownInstance},
    problem::{no_such_route, problem},
};
use crate::domain::products::Product;

/// The interval between two snapshots.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest stream. The page then asks for another one. The listener closes connections on which
/// no request begins for longer.
const LONGEST: Duration = Duration::from_secs(60);
/// How many seconds of the history each snapshot repeats, so that none is missed.
const OVERLAP: usize = 5;
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'; \
     base-uri 'none'; frame-ancestors 'none'",
);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The files of the page beside the page itself: name, type and text.
const FILES: [(&str, &str, &str); 8] = [
    ("page.js", SCRIPT, include_str!("assets/page.js")),
    ("stream.js", SCRIPT, include_str!("assets/stream.js")),
    ("chart.js", SCRIPT, include_str!("assets/chart.js")),
    ("key.js", SCRIPT, include_str!("assets/key.js")),
    ("words.js", SCRIPT, include_str!("assets/words.js")),
    ("uplot.js", SCRIPT, include_str!("assets/vendor/uplot.js")),
    ("page.css", STYLE, include_str!("assets/page.css")),
    ("uplot.css", STYLE, include_str!("assets/vendor/uplot.css")),
];

/// Whether this is a file of the page. The files contain no data, so they need no token.
pub fn is_file(path: &str) -> bool {
    let name = path.trim_start_matches('/');
    name.is_empty() || FILES.iter().any(|(known, ..)| *known == name)
}

pub async fn show_page() -> Response {
    file("text/html; charset=utf-8", include_str!("assets/index.html"))
}

pub async fn show_file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => file(kind, text),
        None => no_such_route().await,
    }
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
    /// The state of this instance in a sentence.
    headline: Headline,
    /// The last seconds. The page has the ones before.
    seconds: Vec<Second>,
    events: Vec<history::Event>,
    /// How long changes took to arrive here, in milliseconds.
    arrivals: Arrivals,
    stats: CacheStats,
    /// This instance and the others.
    instances: Vec<KnownInstance>,
    /// Reads by type, counted by their duration.
    latency: BTreeMap<&'static str, Vec<u64>>,
    /// The upper bounds of those counts in microseconds. The last count has no upper bound.
    bounds_us: Vec<u64>,
}

/// How long changes took to arrive, in milliseconds.
#[derive(Serialize)]
struct Arrivals {
    changes: usize,
    median_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
}

/// The seconds before the page was opened.
#[derive(Serialize)]
struct Before {
    sources: [&'static str; SOURCES.len()],
    seconds: Vec<Second>,
}

/// A tag whose version rose in the ledger, or the number of changes that were missed because they
/// came too fast.
#[derive(Serialize)]
struct Change {
    name: Option<String>,
    missed: u64,
}

/// Streams the history once, then a snapshot each second, and every change when this instance
/// learns of it.
pub async fn stream(State(state): State<Management>) -> Response {
    let live = Live {
        changes: state.cache.changes(),
        cache: state.cache,
        instances: state.instances,
        history: state.history,
        tick: interval(PAUSE),
        begun: false,
    };
    Sse::new(events(live).take_until(sleep(LONGEST))).keep_alive(KeepAlive::default()).into_response()
}

struct Live {
    cache: Cache,
    instances: Instances,
    history: History,
    changes: Receiver<Tag>,
    tick: Interval,
    /// Whether the history was sent.
    begun: bool,
}

fn events(live: Live) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(live, async |mut live| {
        if !std::mem::replace(&mut live.begun, true) {
            let before = Before { sources: SOURCES, seconds: live.history.seconds() };
            return Some((Ok(event("history", &before)), live));
        }
        let event = tokio::select! {
            _ = live.tick.tick() => event("snapshot", &snapshot(&live)),
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
        tracing::error!(%error, kind, "failed to encode an event of the live page");
        Event::default()
    })
}

fn snapshot(live: &Live) -> Snapshot {
    let (stats, times) = (live.cache.stats(), live.cache.arrival_times());
    let millis = |time: Duration| time.as_micros() as f64 / 1_000.0;
    Snapshot {
        headline: live.history.headline(&stats),
        seconds: live.history.last(OVERLAP),
        events: live.history.events(),
        arrivals: Arrivals {
            changes: times.changes,
            median_ms: millis(times.median),
            p99_ms: millis(times.p99),
            worst_ms: millis(times.worst),
        },
        stats,
        instances: live.instances.all(),
        latency: live.cache.latencies(),
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

/// Returns the metadata of the entries under a key, without their values, the version floor of the
/// key, and its version in the ledger. L2 and the ledger are only asked about products, which are
/// public and have one tag.
pub async fn inspect(State(state): State<Management>, wanted: Result<Query<Params>, QueryRejection>) -> Response {
    let Ok(Query(Params { name })) = wanted else {
        return problem(StatusCode::BAD_REQUEST, "Give one name and nothing else: /cache/entry?name=product:42.");
    };
    let patterns: Vec<&str> = state.cache.policies().iter().map(|policy| policy.name).collect();
    match check_name(&name, &patterns) {
        Ok(()) => match product_id(&name) {
            Some(id) => Json(state.cache.inspect_tiers(&Product::key(id)).await).into_response(),
            None => Json(state.cache.inspect(&Tag::from_ledger(&name))).into_response(),
        },
        Err(rule) => problem(StatusCode::UNPROCESSABLE_ENTITY, &format!("name {rule}")),
    }
}

/// The id of a product from its key.
pub fn product_id(name: &str) -> Option<i64> {
    name.strip_prefix("product:")?.parse().ok()
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
