//! Observes a request for the operator: its id, its log line and its metrics. It also adds the
//! request's path and id to a problem.

use std::{
    net::IpAddr,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aside_axum::Refusal;
use aside_cache::Outcome;
use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};
use tracing::Span;

use super::{
    metrics::{HttpMetrics, known},
    problem::Problem,
    routes::Route,
};
use crate::telemetry;

/// The header with the id of a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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

/// The client that sent a request, and the id under which the request is logged. Handlers that
/// authenticate the caller use it.
#[derive(Clone, Debug)]
pub struct Origin {
    pub client: IpAddr,
    pub request_id: HeaderValue,
}

/// A request in flight. When it ends, also because the client disconnected, it is counted and
/// writes one log line.
///
/// The log line contains the route's pattern, and never the path, the query or a header's value,
/// because those can identify customers.
pub struct Observation<'a> {
    began: Instant,
    metrics: &'a HttpMetrics,
    route: Route,
    pattern: &'a str,
    method: Method,
    uri: Uri,
    id: HeaderValue,
    /// The span of the request if tracing is on.
    pub span: Span,
    answer: Option<(StatusCode, Option<Outcome>, Option<Problem>)>,
}

impl<'a> Observation<'a> {
    /// Starts the observation and gives the request its id.
    pub fn begin(metrics: &'a HttpMetrics, pattern: &'a str, route: Route, request: &Request) -> Self {
        metrics.begun();
        let began = Instant::now();
        let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
        Self {
            span: telemetry::request_span(known(request.method()).1, pattern, traceparent),
            began,
            metrics,
            route,
            pattern,
            method: request.method().clone(),
            uri: request.uri().clone(),
            id: request_id(request.headers(), began),
            answer: None,
        }
    }

    /// Returns whether the request asks for the allowed methods.
    pub fn asks_for_methods(&self) -> bool {
        self.method == Method::OPTIONS
    }

    /// The origin of the request, given its client's address.
    pub fn origin(&self, client: IpAddr) -> Origin {
        Origin { client, request_id: self.id.clone() }
    }

    /// Adds the id and the headers that every answer must have. A problem also gets the path and id
    /// of the request, and a refusal of `aside_axum` becomes a problem.
    pub fn complete(mut self, mut response: Response) -> Response {
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

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let status = self.answer.as_ref().map(|(status, ..)| *status);
        self.metrics.ended(self.route, &self.method, status, took);

        let latency_ms = took.as_micros() as f64 / 1_000.0;
        let method = known(&self.method).1;
        let route = self.pattern;
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

/// The client's id if it is short and safe in a log. Otherwise it is a new id, ordered by time.
fn request_id(headers: &HeaderMap, now: Instant) -> HeaderValue {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match headers.get(REQUEST_ID) {
        Some(id) if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(harmless) => id.clone(),
        _ => new_request_id(now),
    }
}

fn new_request_id(now: Instant) -> HeaderValue {
    /// The start time by both clocks. The monotonic clock is read for every request anyway.
    static START: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    // The id is not a secret, so the fast generator is sufficient. The system's generator would
    // cost a system call for every request.
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let (start, since_epoch) = *START;
    let now = (since_epoch + now.saturating_duration_since(start)).as_millis();
    let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(now).unwrap_or_default(), &random).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_request_ids_are_uuids_of_the_kind_that_time_orders() {
        let now = Instant::now();
        let id = new_request_id(now);
        let id = uuid::Uuid::parse_str(id.to_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_ne!(new_request_id(now), new_request_id(now));
    }
}
