//! Cache-aside as tutorials show it: memory (moka), then Redis (deadpool-redis), then Postgres
//! (sqlx), with JSON on every hop. A write deletes the key after its commit. This does not prevent
//! stale answers. A slow reader can store the value again that a write has just deleted. Other
//! processes keep their values in memory until these expire.
//!
//! Settings: `PORT`, `DATABASE_URL`, `REDIS_URL`, and `L1_ENTRIES` (0 disables the cache in
//! memory).

#[path = "../../plain/src/product.rs"]
#[allow(dead_code)]
mod product;

use std::{env, error::Error, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use deadpool_redis::{Pool, Runtime, redis::AsyncCommands};
use moka::future::Cache;
use sqlx::PgPool;
use tokio::net::TcpListener;

use product::{Change, Product};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const L1_LIFETIME: Duration = Duration::from_secs(60);
const L2_SECONDS: u64 = 300;

#[derive(Clone)]
struct App {
    db: PgPool,
    redis: Pool,
    l1: Cache<i64, Product>,
}

type Failure = (StatusCode, String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let entries = env::var("L1_ENTRIES").map_or(Ok(100_000), |entries| entries.parse())?;
    let app = App {
        db: PgPool::connect(&env::var("DATABASE_URL")?).await?,
        redis: deadpool_redis::Config::from_url(env::var("REDIS_URL")?).create_pool(Some(Runtime::Tokio1))?,
        l1: Cache::builder().max_capacity(entries).time_to_live(L1_LIFETIME).build(),
    };
    let router = Router::new().route("/products/{id}", get(get_product).patch(update_product)).with_state(app);
    let listener = TcpListener::bind(("127.0.0.1", env::var("PORT")?.parse()?)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn get_product(State(app): State<App>, Path(id): Path<i64>) -> Result<Json<Product>, Failure> {
    if let Some(product) = app.l1.get(&id).await {
        return Ok(Json(product));
    }
    let key = format!("product:{id}");
    let mut redis = app.redis.get().await.map_err(internal)?;
    let cached: Option<String> = redis.get(&key).await.map_err(internal)?;
    if let Some(json) = cached {
        let product: Product = serde_json::from_str(&json).map_err(internal)?;
        app.l1.insert(id, product.clone()).await;
        return Ok(Json(product));
    }
    let found = product::find(&app.db, id).await.map_err(internal)?;
    let product = found.ok_or((StatusCode::NOT_FOUND, String::new()))?;
    let json = serde_json::to_string(&product).map_err(internal)?;
    let _: () = redis.set_ex(&key, json, L2_SECONDS).await.map_err(internal)?;
    app.l1.insert(id, product.clone()).await;
    Ok(Json(product))
}

async fn update_product(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<Json<Product>, Failure> {
    let found = product::update(&app.db, id, &change).await.map_err(internal)?;
    let product = found.ok_or((StatusCode::NOT_FOUND, String::new()))?;
    let mut redis = app.redis.get().await.map_err(internal)?;
    let _: () = redis.del(format!("product:{id}")).await.map_err(internal)?;
    app.l1.invalidate(&id).await;
    Ok(Json(product))
}

fn internal(error: impl std::fmt::Display) -> Failure {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
