//! Problems (RFC 9457) of the management listener. Their type is `about:blank`, because no program
//! depends on them: the status and a sentence are sufficient. Problems of the public listener have
//! their own types in `http::problem`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Builds an error response of the management listener.
pub fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"management\""));
    }
    response
}

pub async fn no_such_route() -> Response {
    problem(StatusCode::NOT_FOUND, "The management listener has no such route.")
}

pub async fn no_such_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "The route does not have this method; Allow lists those that it has.")
}
