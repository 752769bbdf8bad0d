//! The bodies of `POST /orders` and `PATCH /orders/{id}`, and their way into the domain.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::orders::{NewOrder, NewOrderItem, OrderStatus},
    http::body::objects,
};

/// A new order. Names and prices are taken from the products.
///
/// Serialized only to fingerprint the request for its `Idempotency-Key`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrder)]
pub struct NewOrderBody {
    #[schema(example = 749, minimum = 1)]
    customer_id: i64,
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1)]
    items: Vec<NewOrderItemBody>,
}

/// How much of a product to order.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrderItem)]
pub struct NewOrderItemBody {
    #[schema(example = 1_082_185, minimum = 1)]
    product_id: i64,
    #[schema(example = 2, minimum = 1)]
    quantity: i32,
}

impl From<NewOrderBody> for NewOrder {
    fn from(body: NewOrderBody) -> Self {
        let item = |NewOrderItemBody { product_id, quantity }| NewOrderItem { product_id, quantity };
        Self { customer_id: body.customer_id, items: body.items.into_iter().map(item).collect() }
    }
}

/// The change of an order: its status is all that can change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrderPatch, example = json!({ "status": "cancelled" }))]
pub struct OrderPatchBody {
    pub status: OrderStatus,
}
