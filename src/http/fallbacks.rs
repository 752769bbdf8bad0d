//! The answers to requests that no handler accepts.

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{
    ACCEPT_PATCH,
    extract::PATCH_MEDIA_TYPES,
    problem::{Kind, Problem},
};

/// The methods that at least one route has.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE, OPTIONS");

/// The answer if no route has the path. `OPTIONS *` asks for the methods of the whole service (RFC
/// 9110, section 9.3.7).
pub async fn no_such_route(method: Method, uri: Uri) -> Response {
    match (&method, uri.path()) {
        (&Method::OPTIONS, "*") => (StatusCode::NO_CONTENT, [(header::ALLOW, METHODS)]).into_response(),
        _ if !is_known(&method) => not_implemented(),
        _ => Problem::new(&Kind::NO_SUCH_ROUTE, "No route has this path. The explorer at /docs lists all routes.")
            .into_response(),
    }
}

/// The answer if the route does not have the method. `OPTIONS` asks for the methods of the route.
/// Any other known method gets a 405, and an unknown method gets a 501. The framework adds `Allow`,
/// which [`with_options`] completes.
pub async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    if !is_known(&method) {
        return not_implemented();
    }
    if method != Method::OPTIONS {
        return Problem::new(
            &Kind::METHOD_NOT_ALLOWED,
            "The route does not have this method. `Allow` lists its methods.",
        )
        .into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    // RFC 5789 requires it on every resource that accepts PATCH.
    if matches!(uri.path().split('/').collect::<Vec<_>>()[..], ["", "products" | "orders", id] if id != "top") {
        response.headers_mut().insert(ACCEPT_PATCH, HeaderValue::from_static(PATCH_MEDIA_TYPES));
    }
    response
}

/// Adds `OPTIONS` to `Allow` in answers to it and to refused methods. Every route has it, but the
/// framework does not know that.
pub fn with_options(mut response: Response) -> Response {
    let has_methods = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::METHOD_NOT_ALLOWED);
    if has_methods && let Some(allow) = response.headers_mut().get_mut(header::ALLOW) {
        let methods = allow.to_str().unwrap_or_default().replace(", ", ",").replace(',', ", ");
        if !methods.split(", ").any(|method| method == "OPTIONS")
            && let Ok(all) = HeaderValue::try_from(format!("{methods}, OPTIONS"))
        {
            *allow = all;
        }
    }
    response
}

/// The methods that RFC 9110 and RFC 5789 describe for resources.
fn is_known(method: &Method) -> bool {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    known.contains(method)
}

fn not_implemented() -> Response {
    Problem::new(&Kind::NOT_IMPLEMENTED, "The service does not know this method.").into_response()
}
