//! Counts and times the requests of the public listener by method, route and class of status. All
//! label values come from closed sets, so a client can't create new series. No lock is taken while
//! a request is answered.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use aside_cache::{LatencyHistogram, StripedCounters};
use axum::http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::routes::{Route, Routes};

const METHODS: [(Method, &str); 7] = [
    (Method::GET, "GET"),
    (Method::HEAD, "HEAD"),
    (Method::POST, "POST"),
    (Method::PATCH, "PATCH"),
    (Method::DELETE, "DELETE"),
    (Method::PUT, "PUT"),
    (Method::OPTIONS, "OPTIONS"),
];
/// The index and name of all other methods. A client may send any word as a method.
const OTHER: (usize, &str) = (METHODS.len(), "other");
/// The classes of status. `gone` means that the client disconnected before the answer.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "gone"];

/// The index of a method among the series, and its name.
pub fn known(method: &Method) -> (usize, &'static str) {
    let place = METHODS.iter().position(|(known, _)| known == method);
    place.map_or(OTHER, |place| (place, METHODS[place].1))
}

/// The series.
#[derive(Debug)]
pub struct HttpMetrics {
    routes: Arc<Routes>,
    /// Indexed by route and method. A series is created when it is first used.
    series: Vec<[OnceLock<Series>; METHODS.len() + 1]>,
    /// Counters of started and ended requests.
    requests: StripedCounters<2>,
}

#[derive(Debug, Default)]
struct Series {
    classes: StripedCounters<{ CLASSES.len() }>,
    duration: LatencyHistogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    method: &'static str,
    route: String,
}

impl HttpMetrics {
    /// Creates metrics without any request.
    pub fn new(routes: Arc<Routes>) -> Self {
        let series = (0..routes.len()).map(|_| Default::default()).collect();
        Self { routes, series, requests: StripedCounters::default() }
    }

    /// The pattern of a route, for example `/products/{id}`.
    pub fn name(&self, route: Route) -> &str {
        self.routes.name(route)
    }

    /// Counts a received request.
    pub fn begun(&self) {
        self.requests.add(0, 1);
    }

    /// Records a request that was answered or whose client disconnected.
    pub fn ended(&self, route: Route, method: &Method, status: Option<StatusCode>, took: Duration) {
        self.requests.add(1, 1);
        let series = self.series[route.place()][known(method).0].get_or_init(Series::default);
        let class = status.map_or(CLASSES.len() - 1, |status| usize::from(status.as_u16() / 100).clamp(1, 5) - 1);
        series.classes.add(class, 1);
        series.duration.observe(took);
    }

    fn each(&self) -> impl Iterator<Item = (Timed, &Series)> {
        let names = METHODS.iter().map(|(_, name)| *name).chain([OTHER.1]);
        self.routes.names().zip(&self.series).flat_map(move |(route, methods)| {
            let named = names.clone().zip(methods);
            named.filter_map(move |(method, series)| Some((Timed { method, route: route.to_owned() }, series.get()?)))
        })
    }
}

/// Exposes the series to a registry.
#[derive(Debug)]
pub struct HttpCollector(pub Arc<HttpMetrics>);

impl Collector for HttpCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Requests by method, route and class of status";
        let mut requests = encoder.encode_descriptor("http_requests", help, None, MetricType::Counter)?;
        for (Timed { method, route }, series) in self.0.each() {
            for (place, status) in CLASSES.into_iter().enumerate() {
                let labels = Labels { method, route: route.clone(), status };
                ConstCounter::new(series.classes.sum(place)).encode(requests.encode_family(&labels)?)?;
            }
        }
        let help = "Time from a request's headers to its answer's headers";
        let unit = Some(&Unit::Seconds);
        let mut durations = encoder.encode_descriptor("http_request_duration", help, unit, MetricType::Histogram)?;
        for (labels, series) in self.0.each() {
            series.duration.encode(durations.encode_family(&labels)?)?;
        }
        // The ended requests are read first. In the other order, the difference could be negative.
        let ended = self.0.requests.sum(1);
        let in_flight = ConstGauge::new(self.0.requests.sum(0).saturating_sub(ended) as i64);
        let help = "Requests under way";
        let descriptor = encoder.encode_descriptor("http_requests_in_flight", help, None, in_flight.metric_type())?;
        in_flight.encode(descriptor)
    }
}
