//! What an axum service needs around [`aside_cache`]: a cached answer as a response, and the
//! headers by which a client says how it may be answered.
//!
//! | header of a request | decided by |
//! |---|---|
//! | `If-Match`, `If-None-Match` | [`Conditions`]: 304, 412, the versions that a write accepts |
//! | `Cache-Control` | [`Directives`], within a budget of loads that clients may force |
//! | `Consistency-Token` | [`ReadRequest`]: the answer is never older than the token |
//! | `Prefer: fleet-consistent` | [`ConsistencyLayer`]: a write waits for all instances |
//!
//! The answer has `ETag`, `Age`, `Cache-Control`, `Cache-Status` (RFC 9211) and
//! `Consistency-Token`. The crate knows no resource, no route and no error document of the service.
//! A refusal is a [`Refusal`], and a service converts it into its own error.
//!
//! A handler takes a [`ReadRequest`], reads by its mode, and responds with a [`Representation`]:
//!
//! ```
//! use std::{sync::LazyLock, time::Duration};
//!
//! use aside_axum::{CacheAccess, HeaderTemplate, ReadRequest, Refusal, Representation};
//! use aside_cache::{Cache, CacheConfig, Cacheable, DbTime, Error, Key, Loaded, Policy};
//! use axum::{
//!     Router,
//!     body::Body,
//!     extract::{Path, State},
//!     http::Request,
//!     response::Response,
//!     routing::get,
//! };
//! use tower::ServiceExt;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Product {
//!     id: i64,
//!     version: i64,
//! }
//!
//! impl Cacheable for Product {
//!     const POLICY: Policy = Policy::public("product", Duration::from_hours(1));
//! }
//!
//! static CATALOGUE: LazyLock<HeaderTemplate> =
//!     LazyLock::new(|| HeaderTemplate::new("public, max-age=5"));
//!
//! async fn get_product(
//!     State(access): State<CacheAccess>,
//!     Path(id): Path<i64>,
//!     request: ReadRequest,
//! ) -> Result<Response, Refusal> {
//!     // A service reads its own table here: `.one(sqlx::query_as("select …").bind(id))`.
//!     let load = move |_pool| async move {
//!         let value = Some(Product { id, version: 3 });
//!         Ok::<_, Error>(Loaded { value, tag_versions: vec![], loaded_at: DbTime(0), valid_until: None })
//!     };
//!     let read = access.cache().get(Key::new(id)).mode(request.mode()).load(load).await;
//!     let read = read.map_err(|_| Refusal::NotCached)?;
//!     let answer = Representation::versioned(&read, |product: &Product| product.version)?;
//!     request.respond(answer, &CATALOGUE)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Nothing connects before a query needs a connection.
//! let url = "postgres://nobody@127.0.0.1:1/none";
//! let pool = sqlx::postgres::PgPoolOptions::new().connect_lazy(url)?;
//! let access = CacheAccess::new(Cache::start(CacheConfig::default(), pool), 50);
//! let service = Router::new().route("/products/{id}", get(get_product)).with_state(access);
//!
//! let first = service.clone().oneshot(Request::get("/products/7").body(Body::empty())?).await?;
//! assert_eq!(first.status(), 200);
//! assert_eq!(first.headers()["cache-control"], "public, max-age=5");
//!
//! let again = Request::get("/products/7").header("if-none-match", &first.headers()["etag"]);
//! let second = service.oneshot(again.body(Body::empty())?).await?;
//! assert_eq!(second.status(), 304);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

/// Compiles the code of the front page.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod budget;
mod cache_status;
mod conditions;
mod consistency;
mod directives;
mod entity_tag;
mod lifetime;
mod read_request;
mod refusal;
mod representation;
mod template;
#[cfg(test)]
mod tests;
mod text;
mod written;

pub use self::{
    conditions::{Conditions, Validation},
    consistency::{CONSISTENCY_TOKEN, ClientToken, Consistency, ConsistencyFuture, ConsistencyLayer, token_header},
    directives::Directives,
    entity_tag::EntityTag,
    lifetime::within,
    read_request::{CacheAccess, ReadRequest},
    refusal::Refusal,
    representation::Representation,
    template::HeaderTemplate,
    written::written,
};
