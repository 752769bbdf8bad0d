//! The parts of the API document that routes share: its front page, the headers, and which problems a kind of route can answer.
//!
//! The problems come from the table in `problem`, so the document can't name one that the service doesn't have.

use std::{collections::BTreeMap, marker::PhantomData};

use serde_json::json;
use utoipa::{
    IntoParams, IntoResponses, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, SchemaFormat,
        example::ExampleBuilder, header::Header, schema::Type,
    },
};

use super::{
    problem::{FieldError, Kind, MEDIA_TYPE, ProblemDetails},
    products::ProductBatch,
};
use crate::domain::{
    orders::{Order, OrderItem, OrderPage, OrderStatus},
    products::{Product, ProductPage, TopProducts},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Aside",
        version = env!("CARGO_PKG_VERSION"),
        description = "Orders and products, read through two cache tiers that are never believed.\n\n\
            Try `get_product` twice and look at `Cache-Status`: the first answer was loaded, the second comes from memory. \
            Send its `ETag` back as `If-None-Match` and get a 304, or as `If-Match` with a change and be safe from lost updates. \
            Every error is a problem (RFC 9457) whose `type` leads to its explanation. Every response carries `X-Request-Id`; \
            send one of your own (1 to 128 letters, digits, `-`, `_`, `.`) to find the request in the log.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "This service")),
    tags(
        (name = "products", description = "The catalogue: public, cached in both tiers and for a few seconds in between."),
        (name = "orders", description = "Orders of the caller's tenant: strict, revalidated on every use."),
        (name = "health", description = "For orchestrators."),
        (name = "problems", description = "What the types of errors mean."),
    ),
    components(schemas(
        Product, ProductPage, TopProducts, ProductBatch, Order, OrderItem, OrderPage, OrderStatus, ProblemDetails, FieldError
    )),
    security(())
)]
struct FrontPage;

/// The document without its routes.
pub fn front_page() -> utoipa::openapi::OpenApi {
    FrontPage::openapi()
}

/// The document as it is served and committed.
pub fn json(api: &utoipa::openapi::OpenApi) -> String {
    // A document that was built from these types always has a JSON form.
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Headers of a read.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct ReadHeaders {
    /// Entity tags that the client holds: 304 when one of them is current.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
    /// `no-cache` loads and refreshes the tiers, `no-store` loads and leaves them alone (both a limited number of times a
    /// second), `only-if-cached` answers from the tiers or with 504.
    #[param(rename = "Cache-Control")]
    cache_control: Option<String>,
}

/// Headers of a change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct WriteHeaders {
    /// Entity tags of the states that may be changed: 412 when none of them has the current version. Strong tags only.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
    /// Entity tags of states that must not be changed.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// The answer to a read: 200 with its headers, or 304.
pub struct Cached<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for Cached<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let with_headers = |response: ResponseBuilder| {
            response
                .header("ETag", text("Strong entity tag, computed from the bytes of the body."))
                .header("Age", number("Seconds since the database was read."))
                .header("Cache-Control", text("What caches on the way may do with the answer."))
                .header(
                    "Cache-Status",
                    text("What each tier did (RFC 9211); the one nearest to the database comes first."),
                )
        };
        let found = ResponseBuilder::new()
            .description("Found.")
            .content("application/json", ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).build());
        let not_modified = ResponseBuilder::new().description("The client's representation is current.");
        BTreeMap::from([
            ("200".into(), with_headers(found).build().into()),
            ("304".into(), with_headers(not_modified).build().into()),
        ])
    }
}

/// The answer to a POST or PATCH: the new state.
pub struct Written<T, const STATUS: u16>(PhantomData<T>);

impl<T: ToSchema, const STATUS: u16> IntoResponses for Written<T, STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut response = ResponseBuilder::new()
            .description(if STATUS == 201 { "Created." } else { "Changed." })
            .content("application/json", ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).build())
            .header("ETag", text("Entity tag of the new state, for the next `If-Match`."))
            .header("Content-Location", text("The resource whose state the body shows."));
        if STATUS == 201 {
            response = response.header("Location", text("The new resource."));
        }
        BTreeMap::from([(STATUS.to_string(), response.build().into())])
    }
}

fn text(description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .build()
}

fn number(description: &str) -> Header {
    let schema =
        ObjectBuilder::new().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
    HeaderBuilder::new().schema(Some(schema.minimum(Some(0)))).description(Some(description)).build()
}

/// The problems of a route, besides those that every route has.
fn problems(own: &[&Kind]) -> BTreeMap<String, RefOr<Response>> {
    let common = [&Kind::INTERNAL, &Kind::OVERLOADED, &Kind::UNAVAILABLE, &Kind::TIMEOUT];
    let mut by_status: BTreeMap<u16, Vec<&Kind>> = BTreeMap::new();
    for kind in own.iter().copied().chain(common) {
        by_status.entry(kind.status.as_u16()).or_default().push(kind);
    }
    by_status.into_iter().map(|(status, kinds)| (status.to_string(), described(&kinds).into())).collect()
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

/// Problems of a lookup that takes nothing but a name.
pub struct Unknown;
impl IntoResponses for Unknown {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&Kind::NOT_FOUND])
    }
}

/// Problems of reading one thing.
pub struct ReadOne;
impl IntoResponses for ReadOne {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&Kind::INVALID_PARAMETER, &Kind::NOT_FOUND, &Kind::VERSION_CONFLICT, &Kind::NOT_CACHED])
    }
}

/// Problems of reading a list.
pub struct ReadList;
impl IntoResponses for ReadList {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&Kind::INVALID_PARAMETER, &Kind::VERSION_CONFLICT, &Kind::NOT_CACHED])
    }
}

/// Problems of every body.
const BODY: [&Kind; 6] = [
    &Kind::INVALID_PARAMETER,
    &Kind::MALFORMED_BODY,
    &Kind::REQUEST_TIMEOUT,
    &Kind::BODY_TOO_LARGE,
    &Kind::UNSUPPORTED_MEDIA_TYPE,
    &Kind::VALIDATION,
];

/// Problems of creating a product.
pub struct Create;
impl IntoResponses for Create {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&BODY)
    }
}

/// Problems of placing an order.
pub struct PlaceOrder;
impl IntoResponses for PlaceOrder {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let own = [&Kind::OUT_OF_STOCK, &Kind::IDEMPOTENCY_IN_PROGRESS, &Kind::IDEMPOTENCY_MISMATCH];
        problems(&[&BODY[..], &own].concat())
    }
}

/// Problems of changing a product.
pub struct Update;
impl IntoResponses for Update {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&BODY[..], &[&Kind::NOT_FOUND, &Kind::VERSION_CONFLICT]].concat())
    }
}

/// Problems of changing an order's status.
pub struct UpdateOrder;
impl IntoResponses for UpdateOrder {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&BODY[..], &[&Kind::NOT_FOUND, &Kind::VERSION_CONFLICT, &Kind::INVALID_TRANSITION]].concat())
    }
}

/// Problems of deleting a product.
pub struct Delete;
impl IntoResponses for Delete {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&Kind::INVALID_PARAMETER, &Kind::NOT_FOUND, &Kind::VERSION_CONFLICT])
    }
}
