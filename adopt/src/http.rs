//! HTTP as all routes use it: the caller of a request, the response to a write, and problems.
//!
//! **Replace `identity` by your authentication.** It trusts the headers `x-tenant` and `x-subject`.

use std::sync::LazyLock;

use aside_axum::{CacheAccess, HeaderTemplate};
use aside_cache::{Cache, Error, LoadFailure, Tenant, on_behalf_of};
use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::{invoices::routes::routes, refusal::Refusal, session::Session};

/// The cache as the caller of a request uses it.
pub type Caller = Extension<Session>;

/// The result of a handler.
pub type Answer = Result<Response, Problem>;

/// The headers of answers that only the client itself may store.
pub static PERSONAL: LazyLock<HeaderTemplate> =
    LazyLock::new(|| HeaderTemplate::new("private, no-cache").with(header::VARY, HeaderValue::from_static("x-tenant")));

/// The loads per second that clients may force by `Cache-Control: no-cache`.
const FORCED_LOADS: u32 = 50;

/// Builds the router of all routes.
pub fn router(cache: &Cache) -> Router {
    let access = CacheAccess::new(cache.clone(), FORCED_LOADS);
    routes().layer(from_fn_with_state(access.clone(), identify)).with_state(access)
}

/// Finds out who sends a request. The records of its accesses name the subject.
async fn identify(State(access): State<CacheAccess>, mut request: Request, next: Next) -> Response {
    let Some((tenant, subject)) = identity(request.headers()) else { return StatusCode::UNAUTHORIZED.into_response() };
    request.extensions_mut().insert(Session { cache: access.cache().clone(), tenant });
    on_behalf_of(subject, next.run(request)).await
}

/// The tenant and the user in the headers.
fn identity(headers: &HeaderMap) -> Option<(Tenant, String)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Some((Tenant::parse(text("x-tenant")?)?, text("x-subject")?.to_owned()))
}

/// The path of a resource whose last segment is `id`.
pub fn path(prefix: &str, id: &str) -> String {
    format!("{prefix}{}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

/// The response to a write, with the new state and its entity tag.
///
/// # Errors
/// If the state can't be encoded, which is a defect of the service.
pub fn written(status: StatusCode, path: &str, version: i64, state: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(state).map_err(Error::other)?;
    Ok(aside_axum::written(status, path, version, body.into()).map_err(Error::other)?)
}

/// The response to a request that was refused or failed.
pub struct Problem(StatusCode, String);

impl From<aside_axum::Refusal> for Problem {
    fn from(refusal: aside_axum::Refusal) -> Self {
        Self(refusal.status(), refusal.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let refusal = match &error {
            Error::Other(error) => error.downcast_ref(),
            _ => None,
        };
        let status = match (refusal, &error) {
            (Some(Refusal::NotFound), _) => StatusCode::NOT_FOUND,
            (Some(Refusal::VersionConflict(_)), _) => StatusCode::PRECONDITION_FAILED,
            (Some(Refusal::Taken(_) | Refusal::IllegalStep(..)), _) => StatusCode::CONFLICT,
            (None, Error::Load(LoadFailure::NotCached)) => StatusCode::GATEWAY_TIMEOUT,
            (None, error) if error.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
            (None, error) => {
                eprintln!("a request failed: {error}");
                return Self(StatusCode::INTERNAL_SERVER_ERROR, "the request failed".to_owned());
            }
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, [(header::CACHE_CONTROL, "no-store")], self.1).into_response()
    }
}
