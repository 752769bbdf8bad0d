//! A change that an operator makes to see how fast it arrives. It changes the price of a product by
//! one cent, up or down in turn, as any client could. Then every instance tells when it stopped
//! serving the old version.

use aside_cache::ExpectedVersion;
use aside_cache::{CacheMode, on_behalf_of};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{Management, cache::OPERATOR, instances::Watched, problem::problem};
use crate::domain::{
    error::DomainError,
    products::{Product, ProductChange},
};

/// The product whose price to change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demonstration {
    product: i64,
}

/// Changes the price, and returns the prices before and after it.
pub async fn change_price(
    State(state): State<Management>,
    body: Result<Json<Demonstration>, JsonRejection>,
) -> Response {
    let Ok(Json(Demonstration { product: id })) = body else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, r#"The body must be JSON such as {"product": 1082185}."#);
    };
    match on_behalf_of(OPERATOR, change(&state, id)).await {
        Ok((before, after)) => {
            let key = Product::key(id);
            // The version in the ledger, for which every instance now looks.
            let version = state.cache.inspect_tiers(&key).await.ledger.unwrap_or_default();
            let watched = Watched { tag: key.as_str().to_owned(), version };
            state.instances.watch(watched.clone());
            let body = json!({
                "tag": watched.tag, "version": version, "name": after.name, "currency": after.currency,
                "price_cents_before": before.price_cents, "price_cents": after.price_cents,
            });
            Json(body).into_response()
        }
        Err(DomainError::NotFound { .. }) => problem(StatusCode::NOT_FOUND, "There is no such product."),
        Err(error) => {
            tracing::warn!(%error, "failed to change the price for the live page");
            problem(StatusCode::SERVICE_UNAVAILABLE, "Postgres can't be written at the moment. Try again.")
        }
    }
}

async fn change(state: &Management, id: i64) -> Result<(Product, Product), DomainError> {
    let before = state.products.get_product(id, CacheMode::Reload).await?;
    let before = before.entry.value.clone().ok_or(DomainError::NotFound { kind: "product", id })?;
    // The price stays within a cent, however often this is repeated.
    let price = if before.price_cents % 2 == 0 { before.price_cents + 1 } else { before.price_cents - 1 };
    let change = ProductChange { price_cents: Some(price), ..ProductChange::default() };
    let expected = ExpectedVersion::one_of([before.version]);
    Ok((before, state.products.update_product(id, change, expected).await?))
}
