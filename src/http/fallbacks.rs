//! The answers to requests that no handler takes.

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};

use super::{
    ACCEPT_PATCH,
    extract::PATCH_MEDIA_TYPES,
    problem::{Kind, Problem},
};

/// The answer where no route has the path.
pub async fn no_such_route() -> Problem {
    Problem::new(&Kind::NO_SUCH_ROUTE, "No route has this path; /docs lists them.")
}

/// The answer where the route lacks the method: `OPTIONS` asks what it has, anything else is a 405. The framework adds `Allow`.
pub async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    if method != Method::OPTIONS {
        return Problem::new(&Kind::METHOD_NOT_ALLOWED, "`Allow` lists the methods of this route.").into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    // RFC 5789 wants it on every resource that can be patched.
    if matches!(uri.path().split('/').collect::<Vec<_>>()[..], ["", "products" | "orders", id] if id != "top") {
        response.headers_mut().insert(ACCEPT_PATCH, HeaderValue::from_static(PATCH_MEDIA_TYPES));
    }
    response
}
