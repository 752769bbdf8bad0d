//! The public listener, with every route on one screen. `public_server.rs` has every layer.
//!
//! Every error except that of `/readyz` is a problem (RFC 9457), including the framework's own
//! errors. Every answer states how it may be cached, and every request writes one log line.
//! Exceptions are malformed or oversized heads, to which hyper answers with a bare 400, 414 or 431.
//! Handlers only translate between HTTP and the services. This module binds no address: `app` does.

mod audit;
mod body;
mod caching;
mod constant;
mod cors;
mod docs;
mod extract;
mod fallbacks;
mod forwarded;
mod health;
mod idempotency;
pub mod identity;
mod layers;
mod metrics;
mod negotiation;
mod observe;
mod openapi;
mod orders;
mod problem;
mod products;
mod public_server;
mod query;
mod rate;
mod request_id;
mod routes;
mod signatures;
mod target;

use std::{num::NonZeroU32, ops::Deref, sync::Arc, time::Duration};

use aside_axum::CacheAccess;
use aside_cache::{Cache, Tenant};
use axum::{extract::FromRef, http::HeaderName, middleware::from_fn};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use body::UnknownSchema;
pub use forwarded::TrustedProxies;
use identity::Verifier;
pub use public_server::PublicServer;
use routes::Routes;
pub use target::check_host;

use crate::{
    audit::Audit,
    cdn::SurrogateKeys,
    domain::{orders::service::CachedOrderService, products::service::CachedProductService},
    readiness::Readiness,
};

/// The state that handlers share. It is cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub products: CachedProductService,
    pub orders: CachedOrderService,
    pub cache: Cache,
}

/// The configuration of the listener.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Origins whose pages may call the service. If the list is empty, no CORS headers are sent.
    pub cors_origins: Vec<String>,
    /// The proxies that are trusted to name the client of a request.
    pub proxies: TrustedProxies,
    /// How many reads of resources may be in flight.
    pub max_requests: usize,
    /// The time after which the client gets a 503. A body must arrive within half of it.
    pub request_timeout: Duration,
    /// The maximum length of a body in bytes.
    pub body_limit: usize,
    /// The readiness of the instance for `/readyz`.
    pub readiness: Readiness,
    /// Verifies tokens; `None` switches authentication off.
    pub verifier: Option<Verifier>,
    /// The requests per second that each verified tenant may send; `None` means no limit.
    pub tenant_rate: Option<NonZeroU32>,
    /// Records accesses to regulated data; `None` means that nothing is recorded.
    pub audit: Option<Audit>,
    /// Adds surrogate keys to catalogue answers for a shared cache in front of the service; `None`
    /// if there is none.
    pub cdn: Option<SurrogateKeys>,
}

/// How many reads per second each instance sends past its tiers at the clients' request.
const FORCED_LOADS_PER_SECOND: u32 = 50;

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The state of all handlers. It is cheap to clone.
#[derive(Clone)]
struct WebState(Arc<Shared>);

impl Deref for WebState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl FromRef<WebState> for CacheAccess {
    fn from_ref(state: &WebState) -> Self {
        state.access.clone()
    }
}

struct Shared {
    services: Services,
    readiness: Readiness,
    /// Verifies tokens.
    verifier: Option<Verifier>,
    /// Limits the requests without a valid token by address.
    failures: rate::Failures,
    /// Limits the requests of each tenant.
    rates: Option<rate::Rates>,
    /// Records accesses to orders.
    audit: Option<Audit>,
    /// Adds surrogate keys to catalogue answers for a shared cache.
    cdn: Option<SurrogateKeys>,
    /// The tenant of all requests if there is no verifier.
    tenant: Tenant,
    /// The cache as clients may use it.
    access: CacheAccess,
    body_timeout: Duration,
    body_limit: usize,
    /// The shapes of bodies from the API document.
    shapes: body::Shapes,
}

/// Builds the public listener with all its routes.
///
/// # Errors
/// If the API document describes a body of a request that can't be checked.
pub fn public_server(services: Services, config: &HttpConfig) -> Result<PublicServer, UnknownSchema> {
    let cache = services.cache.clone();
    let (router, api) = resources().merge(probes()).split_for_parts();
    let state = WebState(Arc::new(Shared {
        access: CacheAccess::new(services.cache.clone(), FORCED_LOADS_PER_SECOND),
        services,
        readiness: config.readiness.clone(),
        verifier: config.verifier.clone(),
        failures: rate::Failures::default(),
        rates: config.tenant_rate.map(rate::Rates::new),
        audit: config.audit.clone(),
        cdn: config.cdn.clone(),
        tenant: identity::anonymous_tenant(),
        body_timeout: config.request_timeout / 2,
        body_limit: config.body_limit,
        // A document that was built from these types can always be encoded as JSON.
        shapes: body::Shapes::of(&serde_json::to_value(&api).unwrap_or_default())?,
    }));
    let router = router
        .merge(docs::routes(&api))
        .method_not_allowed_fallback(fallbacks::method_not_allowed)
        .fallback(fallbacks::no_such_route)
        .with_state(state);
    let routes = Routes::new(&resources().into_openapi(), &api);
    Ok(PublicServer::new(router, routes, cache, config))
}

/// Generates only the API document, which needs neither a database nor a configuration.
pub fn document() -> String {
    openapi::json(&resources().merge(probes()).into_openapi())
}

/// The routes of resources, whose reads in flight are limited.
fn resources() -> OpenApiRouter<WebState> {
    OpenApiRouter::with_openapi(openapi::front_page())
        .routes(routes!(products::list_products, products::create_product))
        .routes(routes!(products::top_products))
        .routes(routes!(products::batch_products))
        .routes(routes!(products::get_product, products::update_product, products::delete_product))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(orders::list_orders, orders::create_order))
                .routes(routes!(orders::get_order, orders::update_order))
                .layer(from_fn(audit::with_record)),
        )
}

/// The routes that answer under any load.
fn probes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(docs::list_problems))
        .routes(routes!(docs::get_problem))
}
