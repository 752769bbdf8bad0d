//! `/products`: the catalogue.

mod batch;

use aside_axum::{Conditions, ReadRequest, Representation};
use axum::{
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

pub use batch::ProductBatch;

use super::{
    WebState,
    caching::{catalogue, encode, written},
    extract::{Id, Json, MergePatch},
    identity::{Caller, ProductsWrite},
    openapi::{
        CachedBody, Create, CreateHeaders, Delete, ReadHeaders, ReadList, ReadOne, Update, WriteHeaders, Written,
    },
    problem::Problem,
    query::{Ids, Query, WholeNumber, page},
};
use crate::domain::{
    ListKind,
    products::{NewProduct, Product, ProductChange, ProductFilter, ProductPage, TopProducts},
};

/// Reads a product.
///
/// Counts a view, also when the answer is a 304; counting is batched and does not invalidate.
#[utoipa::path(get, path = "/products/{id}", tag = "products", params(
    ("id" = i64, Path, description = "The product.", minimum = 1, maximum = 9_007_199_254_740_991i64, example = 1_082_185), ReadHeaders),
    responses(CachedBody<Product>, ReadOne))]
pub async fn get_product(
    State(state): State<WebState>,
    method: Method,
    Id(id): Id,
    request: ReadRequest,
) -> Result<Response, Problem> {
    let products = &state.services.products;
    let read = products.get_product(id, request.mode()).await?;
    // HEAD does not count as a view.
    if method == Method::GET {
        products.count_view(id);
    }
    let answer = Representation::versioned(&read, |product| product.version)?;
    catalogue(&state, &request, answer)
}

/// Which products to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListProducts {
    /// Only products of this category, as products spell it (`SOFT DRINKS`).
    #[param(max_length = 200)]
    category: Option<String>,
    /// Only products of this department, as products spell it (`GROCERY`).
    #[param(max_length = 200)]
    department: Option<String>,
    /// How many products at most; 20 when not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, example = 20)]
    limit: Option<WholeNumber>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists products in pages.
#[utoipa::path(get, path = "/products", tag = "products", params(ListProducts, ReadHeaders),
    responses(CachedBody<ProductPage>, ReadList))]
pub async fn list_products(
    State(state): State<WebState>,
    Query(wanted): Query<ListProducts>,
    request: ReadRequest,
) -> Result<Response, Problem> {
    let products = &state.services.products;
    let filter = ProductFilter { category: wanted.category, department: wanted.department };
    filter.check()?;
    let page = page(ListKind::Products, wanted.limit, wanted.cursor.as_deref())?;
    let read = products.list_products(filter, page, request.mode()).await?;
    catalogue(&state, &request, Representation::of(&read)?)
}

/// Which products to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BatchIds {
    /// Up to 100 ids separated by commas.
    #[param(value_type = String, pattern = "^[0-9]+(,[0-9]+)*$", example = "1082185,995242")]
    ids: Ids,
}

/// Reads up to 100 products by their ids.
///
/// The answer has these products in this order, each once, and the ids that name no product.
#[utoipa::path(get, path = "/products/batch", tag = "products", params(BatchIds, ReadHeaders),
    responses(CachedBody<ProductBatch>, ReadList))]
pub async fn batch_products(
    State(state): State<WebState>,
    Query(BatchIds { ids: Ids(ids) }): Query<BatchIds>,
    request: ReadRequest,
) -> Result<Response, Problem> {
    let reads = state.services.products.get_products(ids, request.mode()).await?;
    catalogue(&state, &request, batch::compose(&reads)?)
}

/// How much of the top to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopLimit {
    /// How many products at most; 20 when not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, example = 10)]
    limit: Option<WholeNumber>,
}

/// Lists the most viewed products.
///
/// These are the ones that are warmed at the start. The order follows the view counts with a delay: views don't invalidate.
#[utoipa::path(get, path = "/products/top", tag = "products", params(TopLimit, ReadHeaders), responses(CachedBody<TopProducts>, ReadList))]
pub async fn top_products(
    State(state): State<WebState>,
    Query(wanted): Query<TopLimit>,
    request: ReadRequest,
) -> Result<Response, Problem> {
    let products = &state.services.products;
    let limit = page(ListKind::Products, wanted.limit, None)?.limit;
    let read = products.top_products(limit, request.mode()).await?;
    catalogue(&state, &request, Representation::of(&read)?)
}

/// Adds a product.
#[utoipa::path(post, path = "/products", tag = "products", security((), ("bearer" = ["products:write"])), params(CreateHeaders),
    request_body = NewProduct, responses(Written<Product, 201>, Create))]
pub async fn create_product(
    State(state): State<WebState>,
    _allowed: Caller<ProductsWrite>,
    Json(body): Json<NewProduct>,
) -> Result<Response, Problem> {
    let product = state.services.products.create_product(body).await?;
    written(StatusCode::CREATED, &format!("/products/{}", product.id), product.version, encode(&product)?)
}

/// Changes a product.
///
/// The body is a merge patch (RFC 7396): fields that it doesn't name stay, `"package_size": null` removes the size.
#[utoipa::path(patch, path = "/products/{id}", tag = "products", security((), ("bearer" = ["products:write"])), params(
    ("id" = i64, Path, description = "The product.", minimum = 1, maximum = 9_007_199_254_740_991i64, example = 1_082_185), WriteHeaders),
    request_body(content((ProductChange = "application/merge-patch+json"), (ProductChange = "application/json"))),
    responses(Written<Product, 200>, Update))]
pub async fn update_product(
    State(state): State<WebState>,
    _allowed: Caller<ProductsWrite>,
    Id(id): Id,
    conditions: Conditions,
    MergePatch(change): MergePatch<ProductChange>,
) -> Result<Response, Problem> {
    let product = state.services.products.update_product(id, change, conditions.expected()).await?;
    written(StatusCode::OK, &format!("/products/{id}"), product.version, encode(&product)?)
}

/// Removes a product.
#[utoipa::path(delete, path = "/products/{id}", tag = "products", security((), ("bearer" = ["products:write"])), params(
    ("id" = i64, Path, description = "The product.", minimum = 1, maximum = 9_007_199_254_740_991i64, example = 56_293), WriteHeaders),
    responses((status = 204, description = "Removed."), Delete))]
pub async fn delete_product(
    State(state): State<WebState>,
    _allowed: Caller<ProductsWrite>,
    Id(id): Id,
    conditions: Conditions,
) -> Result<Response, Problem> {
    state.services.products.delete_product(id, conditions.expected()).await?;
    Ok((StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response())
}
