//! The problems that each kind of route can answer.
//!
//! They come from the table in `problem`, so the document can't list a problem that the service
//! does not have.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

use super::{number, text};
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

/// The problems of a route as one response for every status without a response of its own. Errors
/// of generated clients thus have one type.
fn problems(own: &[&'static Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut kinds: Vec<&Kind> = own.iter().copied().chain(ALWAYS).collect();
    kinds.sort_by_key(|kind| kind.status.as_u16());
    BTreeMap::from([("default".to_owned(), described(&kinds).into())])
}

fn described(kinds: &[&Kind]) -> Response {
    let titles = kinds.iter().map(|kind| format!("* {}: {} (`{}`)", kind.status.as_u16(), kind.title, kind.name));
    let titles: Vec<_> = titles.collect();
    let first = kinds.first().map(|kind| {
        let (uri, status) = (format!("/problems/{}", kind.name), kind.status.as_u16());
        json!({ "type": uri, "title": kind.title, "status": status, "detail": kind.about })
    });
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemDetails::name()))).example(first).build();
    let mut response =
        ResponseBuilder::new().description(format!("A problem:\n\n{}", titles.join("\n"))).content(MEDIA_TYPE, content);
    if kinds.iter().any(|kind| kind.retry_after.is_some()) {
        response = response.header("Retry-After", number("Seconds after which a retry makes sense, with 429 and 503."));
    }
    if kinds.contains(&&Kind::UNAUTHENTICATED) {
        response = response
            .header("WWW-Authenticate", text("The scheme and, after a wrong token, the error, with 401 and 403."));
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
