//! The second listener: metrics and administration of the cache. Never public: by default on loopback, elsewhere only with a
//! bearer token. Every route and every guard is on this screen.

mod access;
mod cache;
pub mod compliance;
pub mod instances;
pub mod metrics;
mod page;
mod problem;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    middleware::from_fn_with_state,
    response::Response,
    routing::{get, post},
};
use prometheus_client::registry::Registry;
use tower_http::timeout::TimeoutLayer;

use self::{compliance::Protection, instances::Instances};
use crate::{audit::Audit, cache::Cache, domain::products::service::CachedProductService};

/// Until a request has come whole and its answer has begun. The live page's stream then goes on.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// What the routes of this listener need.
#[derive(Clone)]
pub struct Management {
    pub cache: Cache,
    pub products: CachedProductService,
    /// How many products `POST /cache/warm` warms.
    pub warm_top: u32,
    /// The bearer token that is asked for, if any.
    pub token: Option<Arc<str>>,
    /// One per service, not per process, so that several can run in one test.
    pub registry: Arc<Registry>,
    /// What is known of all instances.
    pub instances: Instances,
    /// How this instance is protected.
    pub protection: Protection,
    /// Who records what operators do; `None`: nobody does.
    pub audit: Option<Audit>,
}

/// The answer to a request without a valid host (RFC 9112, section 3.2).
pub fn refuse_host() -> Response {
    problem::problem(
        StatusCode::BAD_REQUEST,
        "The header Host must be given once, as a host name or address, perhaps with a port.",
    )
}

/// All routes of the management listener.
pub fn router(state: Management) -> Router {
    Router::new()
        .route("/", get(page::show_page))
        .route("/page.js", get(page::show_script))
        .route("/page.css", get(page::show_style))
        .route("/cache/live", get(page::stream))
        .route("/cache/entry", get(page::inspect))
        .route("/metrics", get(metrics::show_metrics))
        .route("/cache/stats", get(cache::show_stats))
        .route("/cache/policies", get(cache::list_policies))
        .route("/cache/compliance", get(compliance::show_compliance))
        .route("/cache/erase", post(cache::erase_tenant))
        .route("/cache/invalidate", post(cache::invalidate_names))
        .route("/cache/warm", post(cache::warm_cache))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(64 * 1024))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_LIMIT))
        .layer(from_fn_with_state(state.clone(), access::guard))
        .with_state(state)
}
