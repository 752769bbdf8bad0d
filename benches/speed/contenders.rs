//! The servers that the service is compared with, each in its own process. They are a route that
//! returns constant bytes, Redis passed through, textbook cache-aside, and the same route without
//! any cache.

use std::{sync::Arc, time::Duration};

use aside::{
    app::database,
    domain::products::{self, Product},
};
use aside_cache::ConnectionPool;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use clap::ValueEnum;
use deadpool_redis::{
    Runtime,
    redis::{self, AsyncCommands, aio::MultiplexedConnection},
};
use tokio::net::TcpListener;

use crate::data::service;

/// Lifetimes of the textbook's tiers.
const L1: Duration = Duration::from_secs(60);
const L2_SECONDS: u64 = 300;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// A route that returns constant bytes with the headers of the service's answer
    Bare,
    /// The value of Redis, unchanged
    Raw,
    /// The same, with a connection taken from a pool for every request
    Pooled,
    /// A map in memory, then Redis, then Postgres, with JSON on every hop
    Textbook,
    /// Postgres for every request
    NoCache,
}

/// The settings of a contender.
pub struct Setting {
    pub port: u16,
    pub database_url: String,
    pub redis_url: String,
    /// The answer of the service that `Bare` repeats: head and body.
    pub head: String,
    pub body: String,
}

/// Serves until the process is killed.
pub async fn serve(contender: Contender, setting: Setting) {
    let listener = TcpListener::bind(("127.0.0.1", setting.port)).await.expect("a listener");
    let headers = headers(&setting.head);
    let router = match contender {
        Contender::Bare => {
            let answer = Arc::new((headers, Bytes::from(setting.body)));
            Router::new().route("/products/{id}", get(bare)).with_state(answer)
        }
        Contender::Raw => {
            let redis = redis_at(&setting.redis_url).await;
            Router::new().route("/products/{id}", get(raw)).with_state((redis, Arc::new(headers)))
        }
        Contender::Pooled => {
            let pool = deadpool_redis::Config::from_url(&setting.redis_url).create_pool(Some(Runtime::Tokio1));
            let state = (pool.expect("a pool"), Arc::new(headers));
            Router::new().route("/products/{id}", get(pooled)).with_state(state)
        }
        Contender::Textbook => {
            let l1 = moka::sync::Cache::builder().time_to_live(L1).max_capacity(100_000).build();
            let (redis, store) = (redis_at(&setting.redis_url).await, store(&setting.database_url).await);
            Router::new().route("/products/{id}", get(textbook)).with_state(Textbook { l1, redis, store })
        }
        Contender::NoCache => {
            Router::new().route("/products/{id}", get(no_cache)).with_state(store(&setting.database_url).await)
        }
    };
    axum::serve(listener, router).await.expect("it serves");
}

/// The headers of an answer, without those that every server adds itself.
fn headers(head: &str) -> HeaderMap {
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let kept = pairs.filter(|(name, _)| !["content-length", "date"].contains(name));
    kept.map(|(name, value)| {
        let name: HeaderName = name.parse().expect("the name of a header");
        (name, HeaderValue::from_str(value).expect("the value of a header"))
    })
    .collect()
}

async fn redis_at(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("the URL of Redis");
    client.get_multiplexed_async_connection().await.expect("a connection to Redis")
}

async fn store(url: &str) -> ConnectionPool {
    // The pool of the service, because the comparison is not about the settings of a pool.
    database::serving_pool(&service(url)).await.expect("a pool")
}

async fn bare(State(answer): State<Arc<(HeaderMap, Bytes)>>) -> (HeaderMap, Bytes) {
    (*answer).clone()
}

type Raw = (MultiplexedConnection, Arc<HeaderMap>);

async fn raw(State((mut redis, headers)): State<Raw>, Path(id): Path<i64>) -> Response {
    let body: redis::RedisResult<Option<Bytes>> = redis.get(format!("raw:{id}")).await;
    match body {
        Ok(Some(body)) => ((*headers).clone(), body).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn pooled(
    State((pool, headers)): State<(deadpool_redis::Pool, Arc<HeaderMap>)>,
    Path(id): Path<i64>,
) -> Response {
    let mut redis = pool.get().await.expect("a connection");
    let body: redis::RedisResult<Option<Bytes>> = redis.get(format!("raw:{id}")).await;
    match body {
        Ok(Some(body)) => ((*headers).clone(), body).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Tiers behind one interface of keys and JSON, as most texts about caching show them.
#[derive(Clone)]
struct Textbook {
    l1: moka::sync::Cache<String, String>,
    redis: MultiplexedConnection,
    store: ConnectionPool,
}

async fn textbook(State(mut this): State<Textbook>, Path(id): Path<i64>) -> Response {
    let key = format!("textbook:{id}");
    let read = |json: &String| serde_json::from_str::<Product>(json).ok();
    if let Some(product) = this.l1.get(&key).as_ref().and_then(read) {
        return axum::Json(product).into_response();
    }
    let cached: Option<String> = this.redis.get(&key).await.unwrap_or_default();
    if let Some((product, json)) = cached.and_then(|json| Some((read(&json)?, json))) {
        this.l1.insert(key, json);
        return axum::Json(product).into_response();
    }
    let Some(product) = load(&this.store, id).await else { return StatusCode::NOT_FOUND.into_response() };
    let json = serde_json::to_string(&product).expect("JSON");
    let _: redis::RedisResult<()> = this.redis.set_ex(&key, &json, L2_SECONDS).await;
    this.l1.insert(key, json);
    axum::Json(product).into_response()
}

async fn no_cache(State(store): State<ConnectionPool>, Path(id): Path<i64>) -> Response {
    match load(&store, id).await {
        Some(product) => ([(header::CACHE_CONTROL, "no-store")], axum::Json(product)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn load(store: &ConnectionPool, id: i64) -> Option<Product> {
    products::store::load_one(store.clone(), id).await.ok()?.value
}
