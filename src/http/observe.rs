//! Observes a request for the operator: its span, its log line and its metrics. It also adds the
//! request's path and id to a problem.

use std::{sync::Arc, time::Instant};

use aside_axum::Refusal;
use aside_cache::Outcome;
use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{Extensions, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};
use futures_util::FutureExt;
use tower::{Layer, layer::layer_fn, service_fn};
use tracing::{Instrument, Span};

use super::{
    layers::HttpService,
    metrics::{HttpMetrics, known},
    problem::Problem,
    request_id::REQUEST_ID,
    routes::Route,
};
use crate::telemetry;

/// The header that names the trace of a request (W3C Trace Context).
/// The routes of probes.
const PROBES: [&str; 2] = ["/livez", "/readyz"];
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header that makes a browser accept the declared media type.
pub const NO_SNIFFING: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Attaches the outcome of the cache's read for the log line of the request, if that line is
/// written.
pub fn note(response: &mut Response, outcome: Outcome) {
    if tracing::enabled!(tracing::Level::INFO) {
        response.extensions_mut().insert(outcome);
    }
}

/// Observes each request: its span, its metrics and its log line. It completes each answer.
pub fn observe<S: HttpService>(metrics: Arc<HttpMetrics>) -> impl Layer<S, Service = impl HttpService> {
    layer_fn(move |mut inner: S| {
        let metrics = Arc::clone(&metrics);
        service_fn(move |request: Request| {
            let observation = Observation::begin(&metrics, &request);
            let span = observation.span.clone();
            let answer = span.in_scope(|| inner.call(request)).instrument(span);
            answer.map(move |Ok(response)| Ok(observation.complete(response)))
        })
    })
}

/// A request in flight. When it ends, also because the client disconnected, it is counted and
/// writes one log line.
///
/// The log line contains the route's pattern, and never the path, the query or a header's value,
/// because those can identify customers.
struct Observation {
    began: Instant,
    metrics: Arc<HttpMetrics>,
    route: Route,
    method: Method,
    uri: Uri,
    id: HeaderValue,
    /// The span of the request if tracing is on.
    span: Span,
    answer: Option<(StatusCode, Option<Outcome>, Option<Problem>)>,
}

impl Observation {
    /// Starts the observation of a request, which has an id and a route.
    fn begin(metrics: &Arc<HttpMetrics>, request: &Request) -> Self {
        metrics.begun();
        let (route, headers) = (Route::of(request), request.headers());
        let traceparent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        Self {
            span: telemetry::request_span(known(request.method()).1, metrics.name(route), traceparent),
            began: Instant::now(),
            metrics: Arc::clone(metrics),
            route,
            method: request.method().clone(),
            uri: request.uri().clone(),
            id: headers.get(REQUEST_ID).cloned().unwrap_or_else(|| HeaderValue::from_static("none")),
            answer: None,
        }
    }

    /// Adds the id and the headers that every answer must have. A problem also gets the path and id
    /// of the request, and a refusal of `aside_axum` becomes a problem.
    fn complete(mut self, mut response: Response) -> Response {
        let refused = |extensions: &mut Extensions| extensions.remove::<Refusal>().map(Problem::from);
        let problem = response.extensions_mut().remove().or_else(|| refused(response.extensions_mut()));
        if let Some(problem) = &problem {
            let id = self.id.to_str().ok().map(str::to_owned);
            let (parts, body) = problem.render(Some(self.uri.path().to_owned()), id).into_parts();
            response.headers_mut().extend(parts.headers);
            // The length of this body, also where the body is left out (RFC 9110, section 9.3.2).
            let length = body.size_hint().exact().map(HeaderValue::from);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.headers_mut().extend(length.map(|length| (header::CONTENT_LENGTH, length)));
            *response.body_mut() = if self.method == Method::HEAD { Body::empty() } else { body };
        }
        let status = response.status();
        let headers = response.headers_mut();
        if status == StatusCode::NOT_MODIFIED {
            // The value would be zero, which is not the length of the 200 (RFC 9110, 8.6).
            headers.remove(header::CONTENT_LENGTH);
        }
        let (name, value) = NO_SNIFFING;
        headers.entry(name).or_insert(value);
        // Without the header, caches may store redirects, preflights and the framework's own
        // answers by heuristics (RFC 9110, 15.1).
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, self.id.clone());
        self.answer = Some((status, response.extensions().get().copied(), problem));
        response
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let status = self.answer.as_ref().map(|(status, ..)| *status);
        self.metrics.ended(self.route, &self.method, status, took);

        let latency_ms = took.as_micros() as f64 / 1_000.0;
        let method = known(&self.method).1;
        let route = self.metrics.name(self.route);
        let request_id = self.id.to_str().unwrap_or_default();
        let trace_id = telemetry::trace_id(&self.span);
        let Some((status, outcome, problem)) = &self.answer else {
            tracing::info!(method, route, latency_ms, request_id, trace_id, "client disconnected before the answer");
            return;
        };
        let status = status.as_u16();
        telemetry::answered(&self.span, status);
        let cache = outcome.map(Outcome::as_str);
        let kind = problem.as_ref().map(Problem::name);
        match problem.as_ref().and_then(Problem::cause) {
            Some(cause) => {
                tracing::error!(
                    method,
                    route,
                    status,
                    latency_ms,
                    request_id,
                    trace_id,
                    cache,
                    problem = kind,
                    cause,
                    "request"
                );
            }
            // Probes come every few seconds and would hide the other requests.
            None if PROBES.contains(&route) && status < 400 => {
                tracing::debug!(method, route, status, latency_ms, request_id, trace_id, "request");
            }
            None => tracing::info!(
                method,
                route,
                status,
                latency_ms,
                request_id,
                trace_id,
                cache,
                problem = kind,
                "request"
            ),
        }
    }
}
