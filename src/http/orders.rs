//! `/orders`: the orders of the caller's tenant.

use aside_axum::{Conditions, ReadRequest, Representation};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode},
    response::Response,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    WebState,
    audit::AuditContext,
    caching::{encode, personal, written},
    extract::{Id, Json, MergePatch},
    idempotency::{IDEMPOTENCY_REPLAYED, IdempotencyKey},
    identity::{Caller, OrdersRead, OrdersWrite},
    openapi::{
        CachedBody, CreateHeaders, PlaceOrder, Placed, ReadHeaders, ReadOwn, ReadOwnList, UpdateOrder, WriteHeaders,
        Written,
    },
    problem::Problem,
    query::{IdText, Query, StatusText, WholeNumber, page},
};
use crate::domain::{
    ListKind,
    orders::{NewOrder, Order, OrderFilter, OrderPage, OrderStatus},
};

/// Reads an order.
#[utoipa::path(get, path = "/orders/{id}", tag = "orders", security((), ("bearer" = ["orders:read"])), params(
    ("id" = i64, Path, description = "The order.", minimum = 1, maximum = 9_007_199_254_740_991i64, example = 31_198_970_033i64), ReadHeaders),
    responses(CachedBody<Order>, ReadOwn))]
pub async fn get_order(
    State(state): State<WebState>,
    caller: Caller<OrdersRead>,
    audit_context: AuditContext,
    Id(id): Id,
    request: ReadRequest,
) -> Result<Response, Problem> {
    let orders = &state.services.orders;
    let mut audit_guard = audit_context.begin(&state, &caller).await.with_key(|| Order::key(&caller.tenant, id));
    let read = audit_guard.note_absent(orders.get_order(&caller.tenant, id, request.mode()).await)?;
    audit_guard.set_outcome(Some(read.outcome));
    personal(&request, Representation::versioned(&read, |order| order.version)?)
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListOrders {
    /// The customer whose orders to list.
    #[param(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991i64, example = 749)]
    customer_id: IdText,
    /// Only orders in this status.
    #[param(value_type = Option<OrderStatus>)]
    status: Option<StatusText>,
    /// How many orders at most; 20 when not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, example = 20)]
    limit: Option<WholeNumber>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists a customer's orders.
#[utoipa::path(get, path = "/orders", tag = "orders", security((), ("bearer" = ["orders:read"])), params(ListOrders, ReadHeaders), responses(CachedBody<OrderPage>, ReadOwnList))]
pub async fn list_orders(
    State(state): State<WebState>,
    caller: Caller<OrdersRead>,
    audit_context: AuditContext,
    Query(wanted): Query<ListOrders>,
    request: ReadRequest,
) -> Result<Response, Problem> {
    let orders = &state.services.orders;
    let filter =
        OrderFilter { customer_id: wanted.customer_id.0, status: wanted.status.map(|StatusText(status)| status) };
    let page = page(ListKind::Orders, wanted.limit, wanted.cursor.as_deref())?;
    let mut audit_guard = audit_context.begin(&state, &caller).await.with_key(|| filter.key(&caller.tenant, page));
    let read = orders.list_orders(&caller.tenant, filter, page, request.mode()).await?;
    audit_guard.set_outcome(Some(read.outcome));
    personal(&request, Representation::of(&read)?)
}

/// Places an order.
///
/// Takes stock and prices from the products in one transaction. With an `Idempotency-Key` the order is placed once, however
/// often the request is sent: repetitions answer the first one's result, marked with `Idempotency-Replayed: true`.
#[utoipa::path(post, path = "/orders", tag = "orders", security((), ("bearer" = ["orders:write"])), params(
    ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 257,
        description = "1 to 255 visible ASCII characters, as a structured string (in quotes) or bare. Belongs to the first \
            request that carries it."), CreateHeaders),
    request_body = NewOrder, responses(Placed, PlaceOrder))]
pub async fn create_order(
    State(state): State<WebState>,
    caller: Caller<OrdersWrite>,
    audit_context: AuditContext,
    key: IdempotencyKey,
    Json(body): Json<NewOrder>,
) -> Result<Response, Problem> {
    let once = key.bind("POST /orders", &body)?;
    let mut audit_guard = audit_context.begin(&state, &caller).await;
    let placed = state.services.orders.place_order(&caller.tenant, body, once).await?;
    audit_guard.set_key(|| Order::key(&caller.tenant, placed.id));
    audit_guard.set_outcome(None);
    let mut response = written(StatusCode::CREATED, &format!("/orders/{}", placed.id), placed.version, placed.body)?;
    if placed.replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The change of an order: its status is all that can change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "status": "confirmed" })))]
pub struct OrderPatch {
    status: OrderStatus,
}

/// Changes the status of an order.
///
/// Orders go from `pending` to `confirmed` to `shipped` to `delivered`; pending and confirmed ones
/// may be `cancelled`. The example is the last order of the sample data, which is pending until a
/// client confirms it.
#[utoipa::path(patch, path = "/orders/{id}", tag = "orders", security((), ("bearer" = ["orders:write"])), params(
    ("id" = i64, Path, description = "The order.", minimum = 1, maximum = 9_007_199_254_740_991i64, example = 33_919_347_292i64), WriteHeaders),
    request_body(content((OrderPatch = "application/merge-patch+json"), (OrderPatch = "application/json"))),
    responses(Written<Order, 200>, UpdateOrder))]
pub async fn update_order(
    State(state): State<WebState>,
    caller: Caller<OrdersWrite>,
    audit_context: AuditContext,
    Id(id): Id,
    conditions: Conditions,
    MergePatch(body): MergePatch<OrderPatch>,
) -> Result<Response, Problem> {
    let orders = &state.services.orders;
    let mut audit_guard = audit_context.begin(&state, &caller).await.with_key(|| Order::key(&caller.tenant, id));
    let changed = orders.change_status(&caller.tenant, id, body.status, conditions.expected()).await;
    let order = audit_guard.note_absent(changed)?;
    audit_guard.set_outcome(None);
    written(StatusCode::OK, &format!("/orders/{id}"), order.version, encode(&order)?)
}
