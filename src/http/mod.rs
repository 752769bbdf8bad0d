//! The public listener: every route on one screen; what happens around them is in `front.rs`.
//!
//! Promises: every error but that of `/readyz` is a problem (RFC 9457), also those of the framework; every answer says how it
//! may be cached; every request leaves one log line. (But for what
//! hyper refuses before it is a request: malformed or oversized heads get its bare 400, 414 or 431.) Handlers translate between HTTP and the services and decide nothing else.
//! This module binds no address: `app` does.

mod audit;
mod body;
mod caching;
mod conditional;
mod consistency;
mod constant;
mod directives;
mod docs;
mod extract;
mod fallbacks;
mod forwarded;
mod health;
mod idempotency;
pub mod identity;
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
mod routes;
mod signatures;
mod target;
mod text;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use axum::http::HeaderName;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use forwarded::TrustedProxies;
use identity::Verifier;
pub use public_server::PublicServer;
use routes::Routes;
pub use target::has_valid_host;

use crate::{
    audit::Audit,
    cache::{Cache, Tenant},
    cdn::SurrogateKeys,
    domain::{Databases, orders::service::CachedOrderService, products::service::CachedProductService},
    readiness::Readiness,
};

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub products: CachedProductService,
    pub orders: CachedOrderService,
    pub cache: Cache,
    pub databases: Databases,
}

/// What the listener is told.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Origins whose pages may call the service; none: no CORS headers at all.
    pub cors_origins: Vec<String>,
    /// The proxies that are trusted to name the client of a request.
    pub proxies: TrustedProxies,
    /// How many reads of resources are worked on at a time.
    pub max_requests: usize,
    /// How long an answer may take before the client gets a 503; a body must arrive within half of it.
    pub request_timeout: Duration,
    /// Longest body in bytes.
    pub body_limit: usize,
    /// Whether the instance wants requests, for `/readyz`.
    pub readiness: Readiness,
    /// Whose tokens to believe; `None`: nobody is asked who they are.
    pub verifier: Option<Verifier>,
    /// How many requests a second each verified tenant may send; `None`: any number.
    pub tenant_rate: Option<NonZeroU32>,
    /// Who records accesses to what is regulated; `None`: nobody does.
    pub audit: Option<Audit>,
    /// Marks catalogue answers for a shared cache in front of the service; `None`: there is none.
    pub cdn: Option<SurrogateKeys>,
}

/// How many reads a second each instance sends past its tiers because clients ask for it.
const FORCED_RELOADS_PER_SECOND: u32 = 50;

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The state of all handlers.
struct Shared {
    services: Services,
    readiness: Readiness,
    /// Whose tokens to believe.
    verifier: Option<Verifier>,
    /// How often peers may come with no valid token.
    failures: rate::Failures,
    /// How many requests tenants may send.
    rates: Option<rate::Rates>,
    /// Who records accesses to orders.
    audit: Option<Audit>,
    /// Marks catalogue answers for a shared cache.
    cdn: Option<SurrogateKeys>,
    /// The tenant of all requests where there is no verifier.
    tenant: Tenant,
    reloads: directives::ReloadBudget,
    /// Whether there is an L2 for `Cache-Status` to speak of.
    l2: bool,
    body_timeout: Duration,
    body_limit: usize,
    /// The shapes of bodies, from the API's document.
    shapes: body::Shapes,
}

type WebState = Arc<Shared>;

/// All that the listener answers.
pub fn public_server(services: Services, config: &HttpConfig) -> PublicServer {
    let cache = services.cache.clone();
    let (router, api) = resources().merge(probes()).split_for_parts();
    let state = Arc::new(Shared {
        l2: services.cache.l2_breaker().is_some(),
        services,
        readiness: config.readiness.clone(),
        verifier: config.verifier.clone(),
        failures: rate::Failures::default(),
        rates: config.tenant_rate.map(rate::Rates::new),
        audit: config.audit.clone(),
        cdn: config.cdn.clone(),
        tenant: identity::anonymous_tenant(),
        reloads: directives::ReloadBudget::new(FORCED_RELOADS_PER_SECOND),
        body_timeout: config.request_timeout / 2,
        body_limit: config.body_limit,
        // A document that was built from these types always has a JSON form.
        shapes: body::Shapes::of(&serde_json::to_value(&api).unwrap_or_default()),
    });
    let router = router
        .merge(docs::routes(&api))
        .method_not_allowed_fallback(fallbacks::method_not_allowed)
        .fallback(fallbacks::no_such_route)
        .with_state(state);
    let routes = Routes::new(&resources().into_openapi(), &api);
    PublicServer::new(router, routes, cache, config)
}

/// The API document alone: needs neither a database nor a configuration.
pub fn document() -> String {
    openapi::json(&resources().merge(probes()).into_openapi())
}

/// The resources, of which no more requests are worked on at a time than there is room for.
fn resources() -> OpenApiRouter<WebState> {
    OpenApiRouter::with_openapi(openapi::front_page())
        .routes(routes!(products::list_products, products::create_product))
        .routes(routes!(products::top_products))
        .routes(routes!(products::get_product, products::update_product, products::delete_product))
        .routes(routes!(orders::list_orders, orders::create_order))
        .routes(routes!(orders::get_order, orders::update_order))
}

/// What answers however much there is to do.
fn probes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(docs::list_problems))
        .routes(routes!(docs::get_problem))
}
