//! The problems that each kind of route can answer.
//!
//! They come from the table in `problem`, so the document can't list a problem that the service
//! does not have.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, example::ExampleBuilder},
};

use super::number;
use crate::http::problem::{Kind, MEDIA_TYPE, ProblemDetails};

/// Problems of every route.
const ALWAYS: [&Kind; 4] = [&Kind::INTERNAL, &Kind::OVERLOADED, &Kind::UNAVAILABLE, &Kind::TIMEOUT];
const EXPLAIN: &[&Kind] = &[&Kind::NOT_FOUND];
const READ_LIST: &[&Kind] = &[&Kind::INVALID_PARAMETER, &Kind::VERSION_CONFLICT, &Kind::NOT_CACHED];
const READ_ONE: &[&Kind] = &[&Kind::INVALID_PARAMETER, &Kind::NOT_FOUND, &Kind::VERSION_CONFLICT, &Kind::NOT_CACHED];
const READ_OWN_LIST: &[&Kind] = &[
    &Kind::UNAUTHENTICATED,
    &Kind::FORBIDDEN,
    &Kind::RATE_LIMITED,
    &Kind::OTHER_REGION,
    &Kind::INVALID_PARAMETER,
    &Kind::VERSION_CONFLICT,
    &Kind::NOT_CACHED,
];
const READ_OWN: &[&Kind] = &[
    &Kind::UNAUTHENTICATED,
    &Kind::FORBIDDEN,
    &Kind::RATE_LIMITED,
    &Kind::OTHER_REGION,
    &Kind::INVALID_PARAMETER,
    &Kind::NOT_FOUND,
    &Kind::VERSION_CONFLICT,
    &Kind::NOT_CACHED,
];
const DELETE: &[&Kind] = &[
    &Kind::UNAUTHENTICATED,
    &Kind::FORBIDDEN,
    &Kind::RATE_LIMITED,
    &Kind::INVALID_PARAMETER,
    &Kind::NOT_FOUND,
    &Kind::VERSION_CONFLICT,
];
const CREATE: &[&Kind] = &[
    &Kind::UNAUTHENTICATED,
    &Kind::FORBIDDEN,
    &Kind::RATE_LIMITED,
    &Kind::INVALID_PARAMETER,
    &Kind::MALFORMED_BODY,
    &Kind::REQUEST_TIMEOUT,
    &Kind::PAYLOAD_TOO_LARGE,
    &Kind::UNSUPPORTED_MEDIA_TYPE,
    &Kind::VALIDATION,
];
const PLACE_ORDER: &[&Kind] = &[
    &Kind::UNAUTHENTICATED,
    &Kind::FORBIDDEN,
    &Kind::RATE_LIMITED,
    &Kind::INVALID_PARAMETER,
    &Kind::MALFORMED_BODY,
    &Kind::REQUEST_TIMEOUT,
    &Kind::OUT_OF_STOCK,
    &Kind::IDEMPOTENCY_IN_PROGRESS,
    &Kind::PAYLOAD_TOO_LARGE,
    &Kind::UNSUPPORTED_MEDIA_TYPE,
    &Kind::VALIDATION,
    &Kind::IDEMPOTENCY_MISMATCH,
];
const UPDATE: &[&Kind] = &[
    &Kind::UNAUTHENTICATED,
    &Kind::FORBIDDEN,
    &Kind::RATE_LIMITED,
    &Kind::INVALID_PARAMETER,
    &Kind::MALFORMED_BODY,
    &Kind::NOT_FOUND,
    &Kind::REQUEST_TIMEOUT,
    &Kind::VERSION_CONFLICT,
    &Kind::PAYLOAD_TOO_LARGE,
    &Kind::UNSUPPORTED_MEDIA_TYPE,
    &Kind::VALIDATION,
];
const UPDATE_ORDER: &[&Kind] = &[
    &Kind::UNAUTHENTICATED,
    &Kind::FORBIDDEN,
    &Kind::RATE_LIMITED,
    &Kind::INVALID_PARAMETER,
    &Kind::MALFORMED_BODY,
    &Kind::NOT_FOUND,
    &Kind::REQUEST_TIMEOUT,
    &Kind::INVALID_TRANSITION,
    &Kind::VERSION_CONFLICT,
    &Kind::PAYLOAD_TOO_LARGE,
    &Kind::UNSUPPORTED_MEDIA_TYPE,
    &Kind::VALIDATION,
];
const ROUTES: [&[&Kind]; 10] =
    [EXPLAIN, READ_LIST, READ_ONE, READ_OWN_LIST, READ_OWN, DELETE, CREATE, PLACE_ORDER, UPDATE, UPDATE_ORDER];

/// The responses that routes refer to.
pub fn shared() -> impl Iterator<Item = (String, RefOr<Response>)> {
    let responses = ROUTES.iter().flat_map(|own| by_status(own).into_values());
    responses.map(|kinds| (name(&kinds), described(&kinds).into()))
}

/// The problems of a route by status. Each refers to a response that the front page defines once.
fn problems(own: &[&'static Kind]) -> BTreeMap<String, RefOr<Response>> {
    let by_status = by_status(own).into_iter();
    by_status.map(|(status, kinds)| (status.to_string(), Ref::from_response_name(name(&kinds)).into())).collect()
}

fn by_status(own: &[&'static Kind]) -> BTreeMap<u16, Vec<&'static Kind>> {
    let mut by_status: BTreeMap<u16, Vec<&Kind>> = BTreeMap::new();
    for kind in own.iter().copied().chain(ALWAYS) {
        by_status.entry(kind.status.as_u16()).or_default().push(kind);
    }
    by_status
}

/// The name of a response that can be any of `kinds`.
fn name(kinds: &[&Kind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
    names.join(".")
}

fn described(kinds: &[&Kind]) -> Response {
    let titles: Vec<_> = kinds.iter().map(|kind| format!("{} (`{}`).", kind.title, kind.name)).collect();
    let examples = kinds.iter().map(|kind| {
        let (uri, status) = (format!("/problems/{}", kind.name), kind.status.as_u16());
        let value = json!({ "type": uri, "title": kind.title, "status": status, "detail": kind.about });
        (kind.name, RefOr::T(ExampleBuilder::new().summary(kind.title).value(Some(value)).build()))
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ProblemDetails::name())))
        .examples_from_iter(examples)
        .build();
    let mut response = ResponseBuilder::new().description(titles.join(" ")).content(MEDIA_TYPE, content);
    if kinds.iter().any(|kind| kind.retry_after.is_some()) {
        response = response.header("Retry-After", number("Seconds after which trying again makes sense."));
    }
    response.build()
}

/// Problems of explaining a type of problem.
pub struct Explain;
impl IntoResponses for Explain {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(EXPLAIN)
    }
}

/// Problems of reading one thing.
pub struct ReadOne;
impl IntoResponses for ReadOne {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(READ_ONE)
    }
}

/// Problems of reading a list.
pub struct ReadList;
impl IntoResponses for ReadList {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(READ_LIST)
    }
}

/// Problems of reading one resource of a tenant.
pub struct ReadOwn;
impl IntoResponses for ReadOwn {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(READ_OWN)
    }
}

/// Problems of reading a list of a tenant's resources.
pub struct ReadOwnList;
impl IntoResponses for ReadOwnList {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(READ_OWN_LIST)
    }
}

/// Problems of creating a product.
pub struct Create;
impl IntoResponses for Create {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(CREATE)
    }
}

/// Problems of changing a product.
pub struct Update;
impl IntoResponses for Update {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(UPDATE)
    }
}

/// Problems of deleting a product.
pub struct Delete;
impl IntoResponses for Delete {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(DELETE)
    }
}

/// Problems of placing an order.
pub struct PlaceOrder;
impl IntoResponses for PlaceOrder {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(PLACE_ORDER)
    }
}

/// Problems of changing an order's status.
pub struct UpdateOrder;
impl IntoResponses for UpdateOrder {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(UPDATE_ORDER)
    }
}
