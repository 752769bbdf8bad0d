//! The composition root, the only module that knows all parts. It builds them from a [`Config`],
//! runs them, and stops them in order.
//!
//! `build` is separate from `run_until`. A test can thus use free ports (0), read them back, and
//! supply its own shutdown.

pub mod database;
pub mod doctor;
mod files;
mod keys;
mod l2;
mod migrations;
mod proxy_protocol;
mod server;

use std::{net::SocketAddr, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use aside_cache::{Cache, CacheConfig, CacheMode, ConnectionPool};
use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{AccessRecorder, Audit},
    cdn::{Endpoint, PurgeMetrics, Purger, SurrogateKeys},
    config::{Config, ForwardedHeader},
    domain::{
        self,
        orders::{idempotency::run_removal, service::CachedOrderService},
        products::service::CachedProductService,
    },
    http::{self, PublicServer, Services, TrustedProxies, identity::Verifier},
    management::{self, Management, compliance::Protection, history::History, instances::Instances},
    readiness::Readiness,
    shutdown::ShutdownBudget,
    warming,
};
use proxy_protocol::ProxyHeaders;
use server::{Shutdown, bind, serve};

/// How long a load may run after its request timed out. Postgres ends the load's statement together
/// with the request.
const LOAD_GRACE: Duration = Duration::from_secs(1);
/// The maximum number of connections to the management listener. Open live pages keep their
/// connections, and they must not use up the clients' file descriptors.
const MOST_OPERATORS: usize = 64;
/// The interval between two polls of the ledger. At least five polls fit into `max_staleness`.
const POLL: Duration = Duration::from_millis(50);

/// The reason why the service can't start, with advice.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  {advice}")]
pub struct StartError {
    pub what: String,
    pub advice: String,
}

/// A built service, bound to its two listeners but not yet serving.
pub struct App {
    config: Config,
    services: Services,
    readiness: Readiness,
    public: (TcpListener, SocketAddr, PublicServer),
    management: (TcpListener, SocketAddr, Router),
    instances: Instances,
    history: History,
    verifier: Option<Verifier>,
    audit: Option<Audit>,
    purger: Option<Purger>,
}

/// Starts the cache and creates the services on top of it. Redis may be down.
pub fn start_services(config: &Config, db: ConnectionPool, audit: Option<Audit>) -> Result<Services, StartError> {
    let replica = config.database_read_url.as_deref().map(|url| database::replica_pool(config, url)).transpose()?;
    let cache = Cache::start(
        CacheConfig {
            // Instances of different regions never read each other's entries, even if they share a
            // Redis.
            namespace: format!("{}:{}", config.cache_namespace, config.region),
            region: config.region.clone(),
            keys: keys::keyring(config)?,
            l1_bytes: config.cache_l1_bytes,
            l2: l2::l2(config)?,
            l2_deadline: config.cache_l2_deadline,
            replica,
            max_staleness: config.cache_max_staleness,
            poll: POLL.min(config.cache_max_staleness / 5),
            load_limit: config.request_timeout + LOAD_GRACE,
            request_limit: config.request_timeout,
            policies: domain::policies(),
            recorder: Some(Arc::new(AccessRecorder::new(audit))),
            sampled_loads: Some(config.cache_sampled_loads).filter(|pause| !pause.is_zero()),
            ..CacheConfig::default()
        },
        db,
    );
    Ok(Services {
        products: CachedProductService::new(cache.clone()),
        orders: CachedOrderService::new(cache.clone()),
        cache,
    })
}

impl App {
    /// Connects, migrates, starts the cache, and binds both listeners. Port 0 selects a free port.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        if config.migrate {
            database::migrate(&config).await?;
        }
        let db = database::serving_pool(&config).await?;
        if !config.migrate {
            database::expect_migrated(&db).await?;
        }
        database::expect_healthy(&config).await?;
        // The ports are bound before the cache starts its background work, so a taken port leaves
        // nothing running.
        let public = bind(config.bind_addr, "BIND_ADDR").await?;
        let management = bind(config.management_addr, "MANAGEMENT_ADDR").await?;

        let audit = config.audit_log.as_deref().map(start_audit).transpose()?;
        let services = start_services(&config, db.clone(), audit.clone())?;
        let readiness = Readiness::default();
        let verifier = keys::verifier(&config)?;
        let http_config = http_config(&config, &readiness, verifier.clone(), audit.clone());
        let front = http::public_server(services.clone(), &http_config).map_err(|error| StartError {
            what: error.to_string(),
            advice: "This release has a defect: start the previous one, and report this message.".to_owned(),
        })?;
        let mut registry = Registry::default();
        services.cache.register_metrics(&mut registry);
        front.register_metrics(&mut registry);
        if let Some(audit) = &audit {
            audit.register_metrics(&mut registry);
        }
        let purger = purger(&config, &services, &mut registry)?;
        management::metrics::register_process(&mut registry, db.inner().clone());

        let public = with_addr(public, front)?;
        let name = config.instance_name.clone().unwrap_or_else(|| public.1.to_string());
        let instances = Instances::new(services.cache.clone(), db, readiness.clone(), name, config.region.clone());
        let history = History::new(services.cache.clone(), readiness.clone());
        let management_router = management::router(Management {
            cache: services.cache.clone(),
            products: services.products.clone(),
            warm_top: config.cache_warm_top,
            token: config.management_token.as_deref().map(Arc::from),
            registry: Arc::new(registry),
            instances: instances.clone(),
            history: history.clone(),
            protection: protection(&config),
            audit: audit.clone(),
        });
        Ok(Self {
            public,
            management: with_addr(management, management_router)?,
            config,
            services,
            readiness,
            instances,
            history,
            verifier,
            audit,
            purger,
        })
    }

    /// The address of the public listener.
    pub fn addr(&self) -> SocketAddr {
        self.public.1
    }

    /// The address of the management listener.
    pub fn management_addr(&self) -> SocketAddr {
        self.management.1
    }

    /// The services behind the routes.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Serves until `shutdown` is cancelled. Then it stops in this order, all within
    /// SHUTDOWN_TIMEOUT_MS:
    ///
    /// 1. Readiness answers 503 (draining) while requests are still served, for SHUTDOWN_DRAIN_MS.
    /// 2. The public listener and idle connections close, so no new requests arrive.
    /// 3. Requests in flight finish.
    /// 4. The cache finishes its current fills and deletes, and stops polling the ledger.
    /// 5. The views counted so far are written.
    /// 6. This instance removes itself from the table of instances.
    /// 7. The audit records are synced to the disk.
    /// 8. The management listener, which has shown all this to its users, closes.
    /// 9. The pool closes. It waits for the connections of writes whose clients disconnected; these
    ///    writes commit or roll back.
    ///
    /// A step that hangs is cut off and logged, and the next one begins. The shutdown thus ends in
    /// time even if Redis or Postgres is frozen.
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<(), StartError> {
        let Self { config, services, readiness, public, management, instances, history, verifier, audit, purger } =
            self;
        announce(&config, public.1, management.1);
        let (stop, stop_management, stop_views) = (Shutdown::default(), Shutdown::default(), CancellationToken::new());
        let databases = 1 + usize::from(config.database_read_url.is_some());
        let clients = files::max_clients(MOST_OPERATORS + databases * config.database_connections as usize);
        let service = move |peer| public.2.service(peer);
        let public = tokio::spawn(serve(public.0, clients, proxy_headers(&config), service, stop.clone()));
        let router = management.2.layer(from_fn(management_host));
        let (service, until) = (move |_peer| router.clone(), stop_management.clone());
        let management = tokio::spawn(serve(management.0, MOST_OPERATORS, ProxyHeaders::default(), service, until));
        tokio::spawn(run_removal(services.cache.primary().clone(), stop.graceful.clone()));
        let again = warming::warm_again(services.products.clone(), config.cache_warm_top);
        tokio::spawn(stop.graceful.clone().run_until_cancelled_owned(again));
        let keys = keys::follow(config.clone(), services.cache.clone(), verifier);
        tokio::spawn(stop.graceful.clone().run_until_cancelled_owned(keys));
        tokio::spawn(stop.graceful.clone().run_until_cancelled_owned(instances.clone().follow()));
        // It shows the shutdown too, so it ends with the listener that shows it.
        tokio::spawn(stop_management.graceful.clone().run_until_cancelled_owned(history.follow()));
        if let Some(purger) = purger {
            tokio::spawn(stop.graceful.clone().run_until_cancelled_owned(purger.run()));
        }
        let views = tokio::spawn(services.products.views.clone().run(stop_views.clone()));

        tokio::select! {
            _ = warming::warm(&services.products, config.cache_warm_top, CacheMode::Default) => {
                readiness.set_ready();
                tracing::info!("ready");
                shutdown.cancelled().await;
            }
            () = shutdown.cancelled() => {}
        }

        let budget = ShutdownBudget::start(config.shutdown_timeout);
        readiness.set_draining();
        tokio::time::sleep(config.shutdown_drain).await;
        stop.graceful.cancel();
        budget.step("requests", 30, async { drop(public.await) }).await;
        stop.immediate.cancel();
        budget.step("cache", 20, services.cache.shutdown()).await;
        stop_views.cancel();
        budget.step("views", 10, async { drop(views.await) }).await;
        budget.step("instances", 7, instances.leave()).await;
        if let Some(audit) = audit {
            let flushed = tokio::task::spawn_blocking(move || audit.flush());
            budget.step("audit", 6, async { drop(flushed.await) }).await;
        }
        stop_management.graceful.cancel();
        budget.step("management", 5, async { drop(management.await) }).await;
        stop_management.immediate.cancel();
        budget.step("pool", 0, services.cache.close_pools()).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Refuses a request of the management listener without one valid host.
async fn management_host(request: Request, next: Next) -> Response {
    match http::check_host(&request) {
        Ok(()) => next.run(request).await,
        Err(rule) => management::refuse_host(rule),
    }
}

fn with_addr<A>(listener: TcpListener, answers: A) -> Result<(TcpListener, SocketAddr, A), StartError> {
    let addr = listener.local_addr().map_err(|error| StartError {
        what: format!("a listener has no address: {error}"),
        advice: "Set BIND_ADDR and MANAGEMENT_ADDR to addresses of this machine.".into(),
    })?;
    Ok((listener, addr, answers))
}

/// The purger of the shared cache, if one is configured.
fn purger(config: &Config, services: &Services, registry: &mut Registry) -> Result<Option<Purger>, StartError> {
    let Some(purge) = config.cdn.as_ref().and_then(|cdn| cdn.purge.as_ref()) else { return Ok(None) };
    let endpoint = Endpoint::new(purge).map_err(|error| StartError {
        what: format!("CDN_PURGE_URL can't be used: {error}"),
        advice: "Write it as http://host:port/, and CDN_PURGE_TOKEN in visible ASCII characters.".into(),
    })?;
    let metrics = PurgeMetrics::default();
    metrics.register(registry);
    let times = (config.cache_max_staleness, config.request_timeout);
    Ok(Some(Purger::new(services.cache.clone(), services.cache.primary().clone(), endpoint, metrics, times)))
}

fn start_audit(path: &Path) -> Result<Audit, StartError> {
    let started = Audit::start(path).map(|(audit, _thread)| audit);
    started.map_err(|error| StartError {
        what: format!("AUDIT_LOG can't be opened: {error}"),
        advice: "Name a file in a folder that the service's user may write to.".into(),
    })
}

fn http_config(
    config: &Config,
    readiness: &Readiness,
    verifier: Option<Verifier>,
    audit: Option<Audit>,
) -> http::HttpConfig {
    http::HttpConfig {
        cors_origins: config.cors_origins.clone(),
        proxies: match config.proxies.header {
            // The client's address is already that of the connection.
            ForwardedHeader::ProxyProtocol => TrustedProxies::default(),
            header => TrustedProxies::new(config.proxies.networks.clone(), header == ForwardedHeader::Forwarded),
        },
        max_requests: config.max_requests,
        request_timeout: config.request_timeout,
        body_limit: config.body_limit,
        readiness: readiness.clone(),
        verifier,
        tenant_rate: NonZeroU32::new(config.tenant_requests_per_second),
        audit,
        cdn: config.cdn.as_ref().map(SurrogateKeys::new),
    }
}

/// The proxies that name their clients at the start of each connection.
fn proxy_headers(config: &Config) -> ProxyHeaders {
    match config.proxies.header {
        ForwardedHeader::ProxyProtocol => ProxyHeaders::of(config.proxies.networks.clone()),
        ForwardedHeader::Forwarded | ForwardedHeader::XForwardedFor => ProxyHeaders::default(),
    }
}

/// The protection of cached data, for the compliance report.
fn protection(config: &Config) -> Protection {
    Protection {
        l2: config.l2.as_ref().map(|l2| (l2.name(), l2.is_transport_secure())),
        postgres_connection_secure: database::is_transport_secure(config),
        callers_verified: config.verifies_callers(),
        audited: config.audit_log.is_some(),
    }
}

fn announce(config: &Config, public: SocketAddr, management: SocketAddr) {
    tracing::info!(
        %public,
        %management,
        version = env!("CARGO_PKG_VERSION"),
        region = config.region,
        max_staleness_ms = config.cache_max_staleness.as_millis() as u64,
        l1_bytes = config.cache_l1_bytes,
        l2 = config.l2.as_ref().map_or("none", |l2| l2.name()),
        database_connections = config.database_connections,
        "listening; explorer at http://{public}/docs"
    );
    let verified = config.verifies_callers();
    if !verified {
        tracing::warn!("JWT_SECRET and JWT_JWKS_FILE are not set: every request belongs to tenant demo");
    }
    if config.l2.is_some() && !config.seals() {
        tracing::warn!(
            "CACHE_KEYS is not set: orders are not stored in L2, and products are stored there without encryption"
        );
    }
    if config.audit_log.is_none() {
        tracing::warn!("AUDIT_LOG is not set: accesses to orders are not recorded");
    }
    if config.l2.is_none() {
        tracing::warn!(
            "REDIS_URL and MEMCACHED_URL are not set: there is no L2, and each instance has only its own cache"
        );
    }
    if !verified && !public.ip().to_canonical().is_loopback() {
        tracing::warn!("ALLOW_INSECURE is set: other machines can reach the public listener without authentication");
    }
}
