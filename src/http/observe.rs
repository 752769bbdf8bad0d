//! The outermost layer: gives a request its id, completes problems, and leaves one log line.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::problem::Problem;
use crate::cache::Outcome;

/// The header that names a request, coming and going.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id, leaves one log line, and completes a problem with the path and the id.
pub async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let mut line = LogLine {
        began: Instant::now(),
        method: known(request.method()),
        route: request.extensions().get::<MatchedPath>().cloned(),
        id: id.clone(),
        answer: None,
    };
    let uri = request.uri().clone();
    let head = request.method() == Method::HEAD;

    let mut response = next.run(request).await;

    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let complete = problem.render(Some(uri.path().to_owned()), id.to_str().ok().map(str::to_owned));
        let (parts, body) = complete.into_parts();
        response.headers_mut().extend(parts.headers);
        *response.body_mut() = if head { Body::empty() } else { body };
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Heuristics would let caches keep what says nothing (RFC 9110, 15.1): redirects, preflights, the framework's own answers.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    line.answer = Some((response.status(), response.extensions().get().copied(), problem));
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The log line of a request. Written when dropped, so that a request whose client went away leaves one too.
///
/// It names the route's pattern and never the path, the query or a header's value: those name customers.
struct LogLine {
    began: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
    id: HeaderValue,
    answer: Option<(StatusCode, Option<Outcome>, Option<Problem>)>,
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let latency_ms = self.began.elapsed().as_micros() as f64 / 1_000.0;
        let method = self.method;
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        let request_id = self.id.to_str().unwrap_or_default();
        let Some((status, outcome, problem)) = &self.answer else {
            tracing::info!(method, route, latency_ms, request_id, "request abandoned by the client");
            return;
        };
        let status = status.as_u16();
        let cache = outcome.map(Outcome::as_str);
        let kind = problem.as_ref().map(Problem::name);
        match problem.as_ref().and_then(Problem::cause) {
            Some(cause) => {
                tracing::error!(method, route, status, latency_ms, request_id, cache, problem = kind, cause, "request");
            }
            None => tracing::info!(method, route, status, latency_ms, request_id, cache, problem = kind, "request"),
        }
    }
}

/// The client's own id when it is short and harmless in a log, else a new one, ordered by time.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match headers.get(REQUEST_ID) {
        Some(id) if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(harmless) => id.clone(),
        _ => new_request_id(),
    }
}

fn new_request_id() -> HeaderValue {
    // Not a secret, so the fast generator serves: the system's would cost a call into the kernel for every request.
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(now).unwrap_or_default(), &random).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// A method's name for the log: clients may send any word as one.
fn known(method: &Method) -> &'static str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE, Method::PUT, Method::OPTIONS];
    let names = ["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"];
    known.iter().position(|known| known == method).map_or("other", |place| names[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_request_ids_are_ordered_uuids() {
        let id = new_request_id();
        let id = uuid::Uuid::parse_str(id.to_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_ne!(new_request_id(), new_request_id());
    }
}
