//! The steps around every handler, from the outside in: id, log line and metrics (`observe`), CORS,
//! permits, consistency tokens, time limit, panics, and routes. This is one function around the
//! router instead of a stack of layers. Each layer would cost every request one or two boxes, which
//! is more than an L1 hit costs.

use std::{
    convert::Infallible,
    net::IpAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use aside_axum::{CONSISTENCY_TOKEN, ConsistencyRequest};
use aside_cache::Cache;
use axum::{
    Router,
    extract::Request,
    http::{HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, poll};
use prometheus_client::registry::Registry;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;

use super::{
    ACCEPT_PATCH, HttpConfig, fallbacks,
    forwarded::TrustedProxies,
    idempotency::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED},
    metrics::{HttpCollector, HttpMetrics},
    observe::{Observation, REQUEST_ID},
    problem::{Kind, Problem},
    query,
    routes::{Route, Routes},
    target,
};

/// The public listener's request handling.
pub struct PublicServer {
    router: Router,
    cache: Cache,
    routes: Arc<Routes>,
    metrics: Arc<HttpMetrics>,
    cors: Option<CorsLayer>,
    time_limit: Duration,
    max_requests: usize,
    /// Whether handlers need the origin of requests, because they verify callers or record
    /// accesses.
    origins: bool,
    proxies: TrustedProxies,
    /// Reads of resources in flight.
    in_flight: AtomicUsize,
}

impl PublicServer {
    /// Creates the server with the handlers of `router`, which has these routes.
    pub fn new(router: Router, routes: Routes, cache: Cache, config: &HttpConfig) -> Self {
        let routes = Arc::new(routes);
        Self {
            router,
            cache,
            metrics: Arc::new(HttpMetrics::new(Arc::clone(&routes))),
            routes,
            cors: cors(&config.cors_origins),
            time_limit: config.request_timeout,
            max_requests: config.max_requests,
            origins: config.verifier.is_some() || config.audit.is_some(),
            proxies: config.proxies.clone(),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Registers the request metrics in `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(HttpCollector(Arc::clone(&self.metrics))));
    }

    /// Answers a request of a peer.
    pub async fn answer(self: Arc<Self>, peer: IpAddr, mut request: Request) -> Response {
        target::normalize_path(&mut request);
        let route = self.routes.find(request.uri().path());
        let observation = Observation::begin(&self.metrics, self.routes.name(route), route, &request);
        if self.origins {
            let client = self.proxies.client(peer, request.headers());
            request.extensions_mut().insert(observation.origin(client));
        }
        let answer = async {
            if let Err(rule) = target::check_host(&request) {
                return Problem::header("Host", rule).into_response();
            }
            match &self.cors {
                Some(cors) if request.method() != Method::OPTIONS || is_preflight(&request) => {
                    let with_limits = async |request| Ok::<_, Infallible>(self.with_limits(route, request).await);
                    let Ok(response) = Box::pin(cors.layer(service_fn(with_limits)).oneshot(request)).await;
                    response
                }
                _ => self.with_limits(route, request).await,
            }
        };
        let mut response = answer.instrument(observation.span.clone()).await;
        if observation.asks_for_methods() || response.status() == StatusCode::METHOD_NOT_ALLOWED {
            fallbacks::with_options(&mut response);
        }
        observation.complete(response)
    }

    /// Runs the request within the limits. It refuses the request at once if there is no permit,
    /// and answers with a problem when the time limit is reached.
    async fn with_limits(&self, route: Route, request: Request) -> Response {
        if let Some(query) = request.uri().query() {
            let unknown = self.routes.unknown_parameters(route, request.method(), query);
            if !unknown.is_empty() {
                let broken = unknown.into_iter().map(|name| (name, query::UNKNOWN.to_owned()));
                return Problem::parameters(broken).into_response();
            }
        }
        // The cache limits the wait for Postgres by time. This permit limits the memory that
        // waiting reads use. Writes take no permit while their bodies arrive.
        let Some(_until_answered) = Permit::try_acquire(self, route.resource && request.method().is_safe()) else {
            return Problem::new(
                &Kind::OVERLOADED,
                "The service has as many requests in memory as MAX_REQUESTS allows.",
            )
            .with_cause("too many requests")
            .into_response();
        };
        let asked = ConsistencyRequest::from_request(&request);
        let mut work =
            pin!(AssertUnwindSafe(self.router.clone().oneshot(request).map(|Ok(answer)| answer)).catch_unwind());
        // An immediate answer needs no timer. The time limit stops no write: a write that has begun
        // runs to its end.
        let ended = match poll!(work.as_mut()) {
            Poll::Ready(ended) => Ok(ended),
            Poll::Pending => tokio::time::timeout(self.time_limit, work).await,
        };
        match ended {
            Ok(Ok(response)) => asked.apply(&self.cache, response).await,
            Ok(Err(_panic)) => Problem::internal("a handler panicked").into_response(),
            Err(_) => Problem::new(&Kind::TIMEOUT, "The answer was not ready in time.")
                .with_cause("time limit")
                .into_response(),
        }
    }
}

/// A permit for a request in flight, released when it is dropped.
struct Permit<'a>(Option<&'a AtomicUsize>);

impl<'a> Permit<'a> {
    fn try_acquire(server: &'a PublicServer, needed: bool) -> Option<Self> {
        if !needed {
            return Some(Self(None));
        }
        let permit = Self(Some(&server.in_flight));
        (server.in_flight.fetch_add(1, Ordering::Relaxed) < server.max_requests).then_some(permit)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(in_flight) = self.0 {
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Returns whether this is a CORS preflight. `OPTIONS` without the method of a later request asks
/// for the methods of the route.
fn is_preflight(request: &Request) -> bool {
    request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()));
    let read = [
        header::AUTHORIZATION,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::CACHE_CONTROL,
        header::CONTENT_TYPE,
        IDEMPOTENCY_KEY,
        CONSISTENCY_TOKEN,
        HeaderName::from_static("prefer"),
        REQUEST_ID,
        // A traced page sends these headers of W3C Trace Context and Baggage with each request.
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
        HeaderName::from_static("baggage"),
    ];
    let shown = [
        header::ALLOW,
        ACCEPT_PATCH,
        header::ETAG,
        header::AGE,
        header::CONTENT_LOCATION,
        header::LOCATION,
        header::RETRY_AFTER,
        HeaderName::from_static("ratelimit"),
        HeaderName::from_static("ratelimit-policy"),
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("cache-status"),
        IDEMPOTENCY_REPLAYED,
        CONSISTENCY_TOKEN,
        HeaderName::from_static("preference-applied"),
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

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, Bytes, to_bytes},
        http::{HeaderMap, HeaderValue},
        routing::{get, post},
    };
    use serde_json::Value;
    use sqlx::postgres::PgPoolOptions;
    use utoipa::openapi::OpenApi;

    use super::*;
    use crate::readiness::Readiness;
    use aside_cache::CacheConfig;

    fn server(origins: &[&str]) -> Arc<PublicServer> {
        let limits = HttpConfig {
            cors_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            proxies: TrustedProxies::default(),
            max_requests: 1,
            request_timeout: Duration::from_millis(50),
            body_limit: 16,
            readiness: Readiness::default(),
            verifier: None,
            tenant_rate: None,
            audit: None,
            cdn: None,
        };
        let router = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route(
                "/panics",
                get(|| async {
                    if true {
                        panic!("on purpose")
                    }
                }),
            )
            .route("/hangs", get(std::future::pending::<()>))
            .route("/takes", post(|_: Bytes| async {}))
            .method_not_allowed_fallback(fallbacks::method_not_allowed)
            .fallback(fallbacks::no_such_route);
        let nowhere = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        let cache = Cache::start(CacheConfig::default(), nowhere);
        let empty = OpenApi::default();
        Arc::new(PublicServer::new(router, Routes::new(&empty, &empty), cache, &limits))
    }

    async fn send(server: Arc<PublicServer>, request: Request) -> (StatusCode, HeaderMap, Value) {
        let response = server.answer([127, 0, 0, 1].into(), request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn request(method: &str, path: &str) -> Request {
        Request::builder().method(method).uri(path).header("host", "test").body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn what_no_handler_answers_is_a_problem_with_path_and_request_id() {
        let cases = [
            ("GET", "/nowhere?secret=1", 404, "/problems/no-such-route", "/nowhere"),
            ("DELETE", "/fine", 405, "/problems/method-not-allowed", "/fine"),
            ("BREW", "/fine", 501, "/problems/not-implemented", "/fine"),
            ("GET", "/panics", 500, "/problems/internal", "/panics"),
            ("GET", "/hangs", 503, "/problems/timeout", "/hangs"),
        ];
        for (method, path, status, kind, instance) in cases {
            let (answered, headers, problem) = send(server(&[]), request(method, path)).await;
            assert_eq!((answered.as_u16(), &problem["type"]), (status, &kind.into()), "{method} {path}");
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(problem["instance"], instance);
            assert_eq!(problem["request_id"].as_str(), headers["x-request-id"].to_str().ok());
            assert_eq!(headers.contains_key("retry-after"), status == 503, "{method} {path}");
            assert_eq!(headers.contains_key("allow"), path == "/fine", "{method} {path}");
        }
    }

    #[tokio::test]
    async fn options_lists_the_methods() {
        let (status, headers, _) = send(server(&[]), request("OPTIONS", "/fine")).await;
        assert_eq!((status.as_u16(), &headers["allow"]), (204, &HeaderValue::from_static("GET, HEAD, OPTIONS")));
    }

    #[tokio::test]
    async fn a_problem_of_head_has_no_body() {
        let (status, _, problem) = send(server(&[]), request("HEAD", "/nowhere")).await;
        assert_eq!((status.as_u16(), problem), (404, Value::Null));
    }

    #[tokio::test]
    async fn a_harmless_request_id_is_kept_and_any_other_is_replaced() {
        let long = "x".repeat(129);
        for (given, kept) in [("client-4711_a.b", true), ("", false), ("a b", false), ("a\"b", false), (&long, false)] {
            let mut request = request("GET", "/fine");
            request.headers_mut().insert(REQUEST_ID, given.parse().unwrap());
            let (_, headers, _) = send(server(&[]), request).await;
            assert_eq!(headers["x-request-id"] == given, kept, "{given}");
        }
    }

    #[tokio::test]
    async fn pages_of_other_origins_are_let_in_only_when_they_are_listed() {
        let cases: [(&[&str], Option<&str>); 3] = [
            (&[], None),
            (&["https://other.example"], None),
            (&["https://shop.example"], Some("https://shop.example")),
        ];
        for (origins, allowed) in cases {
            let mut preflight = request("OPTIONS", "/takes");
            preflight.headers_mut().insert(header::ORIGIN, HeaderValue::from_static("https://shop.example"));
            preflight.headers_mut().insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
            let (_, headers, _) = send(server(origins), preflight).await;
            let answered = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.to_str().unwrap());
            assert_eq!(answered, allowed, "{origins:?}");
        }
    }
}
