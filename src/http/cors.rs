//! CORS: which pages of other origins may call the service, and which headers they send and see.

use std::time::Duration;

use aside_axum::CONSISTENCY_TOKEN;
use axum::{
    extract::Request,
    http::{HeaderName, Method, header},
};
use futures_util::FutureExt;
use tower::{Layer, Service, layer::layer_fn, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    ACCEPT_PATCH,
    idempotency::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED},
    layers::HttpService,
    request_id::REQUEST_ID,
};

/// Lets pages of these origins call the service. Without an origin, there is no layer.
pub fn cors<S: HttpService>(origins: &[String]) -> Option<impl Layer<S, Service = impl HttpService + use<S>> + use<S>> {
    let cors = (!origins.is_empty()).then(|| layer(origins))?;
    Some(layer_fn(move |mut inner: S| {
        let mut with_cors = cors.layer(inner.clone());
        service_fn(move |request: Request| match request.method() {
            // The layer takes every OPTIONS for a preflight. Others ask for the methods of a route.
            &Method::OPTIONS if !is_preflight(&request) => inner.call(request).left_future(),
            _ => with_cors.call(request).right_future(),
        })
    }))
}

fn is_preflight(request: &Request) -> bool {
    request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn layer(origins: &[String]) -> CorsLayer {
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
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(read)
        .expose_headers(shown)
        .max_age(Duration::from_secs(600))
}
