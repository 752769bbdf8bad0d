//! A service without a cache, in the style of the axum and sqlx documentation. `GET /products/{id}`
//! is one plain select, and `PATCH /products/{id}` is one plain update. Two more routes are limits:
//! `/constant/{id}` answers bytes from a map in memory, and `/redis/{id}` returns the value of
//! Redis unchanged. The service promises nothing about caching and refuses no request.
//!
//! Settings: `PORT`, `DATABASE_URL`, and `REDIS_URL` if the route of Redis is used.

mod product;

use std::{collections::HashMap, env, error::Error, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use redis::{AsyncCommands, aio::ConnectionManager};
use sqlx::PgPool;
use tokio::net::TcpListener;

use product::{Change, Product};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone)]
struct App {
    db: PgPool,
    constant: Arc<HashMap<i64, Bytes>>,
    redis: Option<ConnectionManager>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The pool's defaults: at most 10 connections.
    let db = PgPool::connect(&env::var("DATABASE_URL")?).await?;
    let constant = product::all_as_json(&db).await?;
    let redis = match env::var("REDIS_URL") {
        Ok(url) if !url.is_empty() => Some(ConnectionManager::new(redis::Client::open(url)?).await?),
        _ => None,
    };
    let router = Router::new()
        .route("/products/{id}", get(get_product).patch(update_product))
        .route("/constant/{id}", get(get_constant))
        .route("/redis/{id}", get(get_from_redis))
        .with_state(App { db, constant: Arc::new(constant), redis });
    let listener = TcpListener::bind(("127.0.0.1", env::var("PORT")?.parse()?)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn get_product(State(app): State<App>, Path(id): Path<i64>) -> Result<Json<Product>, StatusCode> {
    answer(product::find(&app.db, id).await)
}

async fn update_product(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<Json<Product>, StatusCode> {
    answer(product::update(&app.db, id, &change).await)
}

fn answer(found: sqlx::Result<Option<Product>>) -> Result<Json<Product>, StatusCode> {
    match found {
        Ok(Some(product)) => Ok(Json(product)),
        Ok(None) => Err(StatusCode::NOT_FOUND),
        Err(error) => {
            eprintln!("{error}");
            Err(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn get_constant(State(app): State<App>, Path(id): Path<i64>) -> Response {
    match app.constant.get(&id) {
        Some(body) => (headers(), body.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn get_from_redis(State(app): State<App>, Path(id): Path<i64>) -> Response {
    let Some(mut redis) = app.redis else { return StatusCode::NOT_FOUND.into_response() };
    let found: redis::RedisResult<Option<Bytes>> = redis.get(format!("raw:{id}")).await;
    match found {
        Ok(Some(body)) => (headers(), body).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=5")),
        (header::ETAG, HeaderValue::from_static("\"0123456789abcdef\"")),
    ])
}
