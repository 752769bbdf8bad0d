//! The public listener: every layer around the router on one screen. No layer boxes a request, its
//! future or its answer. DECISIONS.md says why some layers are not those of `tower-http`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use aside_axum::ConsistencyLayer;
use aside_cache::Cache;
use axum::Router;
use prometheus_client::registry::Registry;
use tower::{ServiceBuilder, util::MapRequestLayer};

use super::{
    HttpConfig,
    cors::cors,
    fallbacks,
    forwarded::TrustedProxies,
    layers::{HttpService, ReadLimit, catch_panics, limit_reads, limit_time, refuse},
    metrics::{HttpCollector, HttpMetrics},
    observe::observe,
    request_id::with_request_id,
    routes::Routes,
    target,
};

/// The public listener's request handling.
pub struct PublicServer {
    router: Router,
    routes: Arc<Routes>,
    metrics: Arc<HttpMetrics>,
    cache: Cache,
    /// The origins whose pages may call the service.
    origins: Vec<String>,
    /// The proxies that name clients, if handlers verify callers or record accesses.
    proxies: Option<TrustedProxies>,
    reads: ReadLimit,
    time_limit: Duration,
}

impl PublicServer {
    /// Creates the server with the handlers of `router`, which has these routes.
    pub fn new(router: Router, routes: Routes, cache: Cache, config: &HttpConfig) -> Self {
        let routes = Arc::new(routes);
        let knows_clients = config.verifier.is_some() || config.audit.is_some();
        Self {
            router,
            metrics: Arc::new(HttpMetrics::new(Arc::clone(&routes))),
            routes,
            cache,
            origins: config.cors_origins.clone(),
            proxies: knows_clients.then(|| config.proxies.clone()),
            reads: ReadLimit::new(config.max_requests),
            time_limit: config.request_timeout,
        }
    }

    /// Registers the request metrics in `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(HttpCollector(Arc::clone(&self.metrics))));
    }

    /// The router within its layers, for a connection from `peer`. A request passes the layers from
    /// the top down, and its answer from the bottom up.
    pub fn service(&self, peer: IpAddr) -> impl HttpService + use<> {
        let [routes, parameters] = [(); 2].map(|()| Arc::clone(&self.routes));
        let with_client =
            |proxies: TrustedProxies| MapRequestLayer::new(move |request| proxies.with_client(peer, request));
        ServiceBuilder::new()
            .map_request(target::with_normal_path)
            .map_request(with_request_id)
            .map_request(move |request| routes.mark(request))
            .layer(observe(Arc::clone(&self.metrics)))
            .option_layer(self.proxies.clone().map(with_client))
            .map_response(fallbacks::with_options)
            .layer(refuse(target::require_host))
            .option_layer(cors(&self.origins))
            .layer(refuse(move |request| parameters.require_known_parameters(request)))
            .layer(limit_reads(self.reads.clone()))
            .layer(ConsistencyLayer::new(self.cache.clone()))
            .layer(limit_time(self.time_limit))
            .layer(catch_panics())
            .service(self.router.clone())
    }
}

#[cfg(test)]
mod tests {
    use aside_cache::CacheConfig;
    use axum::{
        body::{Body, Bytes, to_bytes},
        extract::Request,
        http::{HeaderMap, HeaderValue, StatusCode, header},
        routing::{get, post},
    };
    use serde_json::Value;
    use sqlx::postgres::PgPoolOptions;
    use tower::ServiceExt;
    use utoipa::openapi::OpenApi;

    use super::*;
    use crate::{
        http::{fallbacks, request_id::REQUEST_ID},
        readiness::Readiness,
    };

    fn server(origins: &[&str]) -> PublicServer {
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
        PublicServer::new(router, Routes::new(&empty, &empty), cache, &limits)
    }

    async fn send(server: PublicServer, request: Request) -> (StatusCode, HeaderMap, Value) {
        let Ok(response) = server.service([127, 0, 0, 1].into()).oneshot(request).await;
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
