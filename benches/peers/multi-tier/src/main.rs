//! The same service with the crate multi-tier-cache as its documentation shows it:
//! `get_or_compute_typed` around one plain select, and `invalidate` after an update.
//!
//! Settings: `PORT`, `DATABASE_URL`, `REDIS_URL`.

#[path = "../../plain/src/product.rs"]
#[allow(dead_code)]
mod product;

use std::{env, error::Error, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use multi_tier_cache::{CacheManager, CacheStrategy, CacheSystem, error::CacheError};
use sqlx::PgPool;
use tokio::net::TcpListener;

use product::{Change, Product};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone)]
struct App {
    db: PgPool,
    cache: Arc<CacheManager>,
}

type Failure = (StatusCode, String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let system = CacheSystem::with_redis_url(&env::var("REDIS_URL")?).await?;
    let app = App { db: PgPool::connect(&env::var("DATABASE_URL")?).await?, cache: Arc::clone(system.cache_manager()) };
    let router = Router::new().route("/products/{id}", get(get_product).patch(update_product)).with_state(app);
    let listener = TcpListener::bind(("127.0.0.1", env::var("PORT")?.parse()?)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn get_product(State(app): State<App>, Path(id): Path<i64>) -> Result<Json<Product>, Failure> {
    let load = || async {
        let found = product::find(&app.db, id).await.map_err(|error| CacheError::BackendError(error.to_string()))?;
        found.ok_or(CacheError::NotFound)
    };
    match app.cache.get_or_compute_typed(&key(id), CacheStrategy::ShortTerm, load).await {
        Ok(product) => Ok(Json(product)),
        Err(CacheError::NotFound) => Err((StatusCode::NOT_FOUND, String::new())),
        Err(error) => Err(internal(error)),
    }
}

async fn update_product(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<Json<Product>, Failure> {
    let found = product::update(&app.db, id, &change).await.map_err(internal)?;
    let product = found.ok_or((StatusCode::NOT_FOUND, String::new()))?;
    app.cache.invalidate(&key(id)).await.map_err(internal)?;
    Ok(Json(product))
}

fn key(id: i64) -> String {
    format!("product:{id}")
}

fn internal(error: impl std::fmt::Display) -> Failure {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
