//! What happens to every request before and after its handler, from the outside in: id and log line, CORS, panics, time limit,
//! body limit. The answers to requests that no handler takes are here too.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, Any, CorsLayer},
};

use super::{
    ACCEPT_PATCH, HttpConfig,
    extract::PATCH_MEDIA_TYPES,
    idempotency::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED},
    problem::{Kind, Problem},
};
use crate::cache::Outcome;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps the routes into the layers, outermost first.
pub fn around(router: Router, limits: &HttpConfig) -> Router {
    router.layer(
        ServiceBuilder::new()
            .layer(from_fn(observe))
            .option_layer(cors(&limits.cors_origins))
            .layer(CatchPanicLayer::custom(|_| Problem::internal("a handler panicked").into_response()))
            .layer(from_fn_with_state(limits.request_timeout, limit_time))
            .layer(DefaultBodyLimit::max(limits.body_limit)),
    )
}

/// Gives the request its id, leaves one log line, and completes a problem with the path and the id.
async fn observe(request: Request, next: Next) -> Response {
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
        *response.body_mut() = if head { axum::body::Body::empty() } else { body };
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
        let latency_ms = self.began.elapsed().as_secs_f64() * 1_000.0;
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

/// Gives up waiting; a write that has begun goes on to its end by itself.
async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Problem::new(&Kind::TIMEOUT, "The answer was not ready in time.").with_cause("time limit").into_response()
        }
    }
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    let read = [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::CACHE_CONTROL,
        header::CONTENT_TYPE,
        IDEMPOTENCY_KEY,
        REQUEST_ID,
    ];
    let shown = [
        header::ETAG,
        header::AGE,
        header::LOCATION,
        header::RETRY_AFTER,
        HeaderName::from_static("cache-status"),
        IDEMPOTENCY_REPLAYED,
        REQUEST_ID,
    ];
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(read)
            .expose_headers(shown)
            .max_age(Duration::from_secs(600)),
    )
}

/// The answer where no route has the path.
pub async fn no_such_route() -> Problem {
    Problem::new(&Kind::NO_SUCH_ROUTE, "No route has this path; /docs lists them.")
}

/// The answer where the route lacks the method: `OPTIONS` asks what it has, anything else is a 405. The framework adds `Allow`.
pub async fn method_not_allowed(method: Method, route: Option<MatchedPath>) -> Response {
    if method != Method::OPTIONS {
        return Problem::new(&Kind::METHOD_NOT_ALLOWED, "`Allow` lists the methods of this route.").into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // RFC 5789 wants it on every resource that can be patched.
    if route.is_some_and(|route| matches!(route.as_str(), "/products/{id}" | "/orders/{id}")) {
        response.headers_mut().insert(ACCEPT_PATCH, HeaderValue::from_static(PATCH_MEDIA_TYPES));
    }
    response
}
