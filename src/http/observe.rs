//! What an operator sees of a request: its id, its log line, its metrics; and what a problem says of the request it answers.

use std::{
    net::IpAddr,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};
use tracing::Span;

use super::{
    metrics::{HttpMetrics, known},
    problem::Problem,
    routes::Route,
};
use crate::{cache::Outcome, telemetry};

/// The header that names a request, coming and going.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names the trace that a request belongs to (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A browser takes an answer for what it says it is.
pub const NO_SNIFFING: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Leaves the outcome of the cache's read for the log line of the request, if that is written.
pub fn note(response: &mut Response, outcome: Outcome) {
    if tracing::enabled!(tracing::Level::INFO) {
        response.extensions_mut().insert(outcome);
    }
}

/// The client that a request came from, and what leads from elsewhere to its log line; for handlers that ask who calls.
#[derive(Clone, Debug)]
pub struct Origin {
    pub client: IpAddr,
    pub request_id: HeaderValue,
}

/// A request under way. When it ends, also because the client went away, it is counted and leaves one log line.
///
/// The line names the route's pattern and never the path, the query or a header's value: those name customers.
pub struct Observation<'a> {
    began: Instant,
    metrics: &'a HttpMetrics,
    route: Route,
    pattern: &'a str,
    method: Method,
    uri: Uri,
    id: HeaderValue,
    /// Its span, if anybody traces.
    pub span: Span,
    answer: Option<(StatusCode, Option<Outcome>, Option<Problem>)>,
}

impl<'a> Observation<'a> {
    /// Gives the request its id.
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

    /// Whether it asks which methods there are.
    pub fn asks_for_methods(&self) -> bool {
        self.method == Method::OPTIONS
    }

    /// Where it came from, when that was this client.
    pub fn origin(&self, client: IpAddr) -> Origin {
        Origin { client, request_id: self.id.clone() }
    }

    /// The answer with the id, and with what every answer must have; a problem with path and id of the request.
    pub fn complete(mut self, mut response: Response) -> Response {
        let problem = response.extensions_mut().remove::<Problem>();
        if let Some(problem) = &problem {
            let id = self.id.to_str().ok().map(str::to_owned);
            let (parts, body) = problem.render(Some(self.uri.path().to_owned()), id).into_parts();
            response.headers_mut().extend(parts.headers);
            // That of this body, also where it is left out (RFC 9110, section 9.3.2).
            let length = body.size_hint().exact().map(HeaderValue::from);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.headers_mut().extend(length.map(|length| (header::CONTENT_LENGTH, length)));
            *response.body_mut() = if self.method == Method::HEAD { Body::empty() } else { body };
        }
        let status = response.status();
        let headers = response.headers_mut();
        if status == StatusCode::NOT_MODIFIED {
            // Zero, which would be that of another answer (RFC 9110, 8.6).
            headers.remove(header::CONTENT_LENGTH);
        }
        let (name, value) = NO_SNIFFING;
        headers.entry(name).or_insert(value);
        // Heuristics would let caches keep what says nothing (RFC 9110, 15.1): redirects, preflights, the framework's own answers.
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
            tracing::info!(method, route, latency_ms, request_id, trace_id, "request abandoned by the client");
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

/// The client's own id when it is short and harmless in a log, else a new one, ordered by time.
fn request_id(headers: &HeaderMap, now: Instant) -> HeaderValue {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match headers.get(REQUEST_ID) {
        Some(id) if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(harmless) => id.clone(),
        _ => new_request_id(now),
    }
}

fn new_request_id(now: Instant) -> HeaderValue {
    /// A moment by both clocks: one of them is read for every request anyway.
    static START: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    // Not a secret, so the fast generator serves: the system's would cost a call into the kernel for every request.
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
