//! What happens to every request before and after its handler, from the outside in: id and log line (`observe`), CORS, panics,
//! time limit, body limit. The answers to requests that no handler takes are here too.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use super::{
    ACCEPT_PATCH, HttpConfig,
    consistency::CONSISTENCY_TOKEN,
    extract::PATCH_MEDIA_TYPES,
    idempotency::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED},
    observe::{REQUEST_ID, observe},
    problem::{Kind, Problem},
};

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

/// Refuses what there is no room for, at once: a queue would only make all of them late.
pub async fn shed(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match room.try_acquire() {
        Ok(_until_answered) => next.run(request).await,
        Err(_) => Problem::new(&Kind::OVERLOADED, "As many requests are under way as the service works on at a time.")
            .with_cause("too many requests")
            .into_response(),
    }
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
    let allowed = AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()));
    let read = [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::CACHE_CONTROL,
        header::CONTENT_TYPE,
        IDEMPOTENCY_KEY,
        CONSISTENCY_TOKEN,
        HeaderName::from_static("prefer"),
        REQUEST_ID,
    ];
    let shown = [
        header::ETAG,
        header::AGE,
        header::LOCATION,
        header::RETRY_AFTER,
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
    // RFC 5789 wants it on every resource that can be patched.
    if route.is_some_and(|route| matches!(route.as_str(), "/products/{id}" | "/orders/{id}")) {
        response.headers_mut().insert(ACCEPT_PATCH, HeaderValue::from_static(PATCH_MEDIA_TYPES));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, Bytes, to_bytes},
        http::HeaderMap,
        routing::{get, post},
    };
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::readiness::Readiness;

    fn service(origins: &[&str]) -> Router {
        let limits = HttpConfig {
            cors_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            max_requests: 1,
            request_timeout: Duration::from_millis(50),
            body_limit: 16,
            readiness: Readiness::default(),
        };
        let routes = Router::new()
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
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(no_such_route);
        around(routes, &limits)
    }

    async fn send(service: Router, request: Request) -> (StatusCode, HeaderMap, Value) {
        let response = service.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn request(method: &str, path: &str) -> Request {
        Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn what_no_handler_answers_is_a_problem_with_path_and_request_id() {
        let cases = [
            ("GET", "/nowhere?secret=1", 404, "/problems/no-such-route", "/nowhere"),
            ("DELETE", "/fine", 405, "/problems/method-not-allowed", "/fine"),
            ("BREW", "/fine", 405, "/problems/method-not-allowed", "/fine"),
            ("GET", "/panics", 500, "/problems/internal", "/panics"),
            ("GET", "/hangs", 503, "/problems/timeout", "/hangs"),
        ];
        for (method, path, status, kind, instance) in cases {
            let (answered, headers, problem) = send(service(&[]), request(method, path)).await;
            assert_eq!((answered.as_u16(), &problem["type"]), (status, &kind.into()), "{method} {path}");
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(problem["instance"], instance);
            assert_eq!(problem["request_id"].as_str(), headers["x-request-id"].to_str().ok());
            assert_eq!(headers.contains_key("retry-after"), status == 503, "{method} {path}");
            assert_eq!(headers.contains_key("allow"), status == 405, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn options_lists_the_methods() {
        let (status, headers, _) = send(service(&[]), request("OPTIONS", "/fine")).await;
        assert_eq!((status.as_u16(), &headers["allow"]), (204, &HeaderValue::from_static("GET,HEAD")));
    }

    #[tokio::test]
    async fn a_problem_of_head_has_no_body() {
        let (status, _, problem) = send(service(&[]), request("HEAD", "/nowhere")).await;
        assert_eq!((status.as_u16(), problem), (404, Value::Null));
    }

    #[tokio::test]
    async fn a_harmless_request_id_is_kept_and_any_other_is_replaced() {
        let long = "x".repeat(129);
        for (given, kept) in [("client-4711_a.b", true), ("", false), ("a b", false), ("a\"b", false), (&long, false)] {
            let mut request = request("GET", "/fine");
            request.headers_mut().insert(REQUEST_ID, given.parse().unwrap());
            let (_, headers, _) = send(service(&[]), request).await;
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
            let (_, headers, _) = send(service(origins), preflight).await;
            let answered = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.to_str().unwrap());
            assert_eq!(answered, allowed, "{origins:?}");
        }
    }
}
