//! Counts and times the requests of the public listener, by route and class of status. `app` puts it around the public router;
//! nothing in here knows of a route. All label values come from closed sets, so no client can make new series.

use std::time::Instant;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The series. Cheap to clone.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<Labels, Counter>,
    duration: Family<Timed, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: Route,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    method: &'static str,
    route: Route,
}

/// The path as the router declares it (`/products/{id}`), which is shared, not copied; none when no route matched.
#[derive(Clone, Debug)]
struct Route(Option<MatchedPath>);

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            // 0.1 ms to 3.3 s: from L1 hits to the time limit of a request.
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 16))),
            in_flight: Gauge::default(),
        }
    }
}

impl HttpMetrics {
    /// Adds the series to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests by method, route and class of status", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's headers to its answer's headers",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("http_requests_in_flight", "Requests under way", self.in_flight.clone());
    }

    /// Counts and times every request of `router`, also those that match no route.
    pub fn around(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, observe))
    }
}

async fn observe(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let route = Route(request.extensions().get::<MatchedPath>().cloned());
    let mut observation = Observation::begin(metrics, method(request.method()), route);
    let response = next.run(request).await;
    observation.status = class(response.status().as_u16());
    response
}

/// One request under way. Counted when dropped, so one whose client went away is counted too: as `gone`.
struct Observation {
    metrics: HttpMetrics,
    begun: Instant,
    method: &'static str,
    route: Route,
    status: &'static str,
}

impl Observation {
    fn begin(metrics: HttpMetrics, method: &'static str, route: Route) -> Self {
        metrics.in_flight.inc();
        Self { metrics, begun: Instant::now(), method, route, status: "gone" }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let (method, route) = (self.method, self.route.clone());
        self.metrics.in_flight.dec();
        self.metrics
            .duration
            .get_or_create(&Timed { method, route: route.clone() })
            .observe(self.begun.elapsed().as_secs_f64());
        self.metrics.requests.get_or_create(&Labels { method, route, status: self.status }).inc();
    }
}

fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

impl Route {
    fn as_str(&self) -> &str {
        self.0.as_ref().map_or("unmatched", MatchedPath::as_str)
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Route {}

impl std::hash::Hash for Route {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}
