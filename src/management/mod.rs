//! The second listener: metrics and administration of the cache. It is never public. By default it
//! is on loopback, and elsewhere it requires a bearer token. Every route and every guard is in this
//! file.

mod access;
mod cache;
pub mod compliance;
mod demonstration;
mod headline;
pub mod history;
pub mod instances;
pub mod metrics;
mod page;
mod problem;
mod process;

use std::{sync::Arc, time::Duration};

use aside_cache::Cache;
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

use self::{compliance::Protection, history::History, instances::Instances};
use crate::{audit::Audit, domain::products::service::CachedProductService};

/// The time limit for a complete request and the start of its answer. The stream of the live page
/// may continue longer.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// The state that the routes of this listener share.
#[derive(Clone)]
pub struct Management {
    pub cache: Cache,
    pub products: CachedProductService,
    /// How many products `POST /cache/warm` warms.
    pub warm_top: u32,
    /// The required bearer token, if any.
    pub token: Option<Arc<str>>,
    /// One registry per service and not per process, so that several services can run in one test.
    pub registry: Arc<Registry>,
    /// The known instances.
    pub instances: Instances,
    /// The last five minutes of this instance.
    pub history: History,
    /// The protection of this instance.
    pub protection: Protection,
    /// Records the actions of operators; `None` if there is no audit.
    pub audit: Option<Audit>,
}

/// The answer to a request without a valid host (RFC 9112, section 3.2).
pub fn refuse_host(rule: &str) -> Response {
    problem::problem(StatusCode::BAD_REQUEST, &format!("The header Host {rule}."))
}

/// All routes of the management listener.
pub fn router(state: Management) -> Router {
    Router::new()
        .route("/", get(page::show_page))
        .route("/{file}", get(page::show_file))
        .route("/cache/live", get(page::stream))
        .route("/cache/entry", get(page::inspect))
        .route("/metrics", get(metrics::show_metrics))
        .route("/cache/stats", get(cache::show_stats))
        .route("/cache/policies", get(cache::list_policies))
        .route("/cache/compliance", get(compliance::show_compliance))
        .route("/cache/demonstration", post(demonstration::change_price))
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
