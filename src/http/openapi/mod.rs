//! The parts of the API document that routes share: its front page, the headers, and the answers.
//!
//! The parts of a single route are next to its handler.

mod problems;

use std::{collections::BTreeMap, marker::PhantomData};

use utoipa::{
    IntoParams, IntoResponses, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, SchemaFormat,
        header::Header,
        path::Operation,
        schema::{Schema, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

pub use problems::{Create, Delete, Explain, PlaceOrder, ReadList, ReadOne, ReadOwn, ReadOwnList, Update, UpdateOrder};

use super::{
    problem::{FieldError, ProblemDetails},
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
        description = "Orders and products, read through a cache in which Redis is never trusted.\n\n\
            Try `get_product` with some id and look at `Cache-Status`; then again more than five seconds later (until then your browser \
            answers by itself): now it comes from memory. The hundred most viewed products are there from the start. \
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
    let mut page = FrontPage::openapi();
    let components = page.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(
        "Claims `tenant`, `sub` and `scope`. Asked for by instances that have a verifier; `make token` makes one for the demonstration.",
    ));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    page
}

/// Removes `null` as a default of merge patch members. An absent member leaves the field unchanged.
/// serde reports its default as `null`, which such a member may not be. Client generators also
/// treat a member with a default as always present.
fn without_null_as_default(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(object)) = schema else { return };
    for property in object.properties.values_mut() {
        if let RefOr::T(Schema::Object(member)) = property {
            member.default.take_if(|default| default.is_null());
        }
    }
}

/// Removes `null` from the types of parameters. An absent header or parameter is left out, and no
/// client can send `null` there.
fn without_null(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
            && let SchemaType::Array(types) = &object.schema_type
            && let [one, Type::Null] = &types[..]
        {
            object.schema_type = one.clone().into();
        }
    }
}

/// The document as it is served and committed.
pub fn json(api: &utoipa::openapi::OpenApi) -> String {
    let mut api = api.clone();
    api.components.iter_mut().flat_map(|components| components.schemas.values_mut()).for_each(without_null_as_default);
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        operations.into_iter().flatten().for_each(without_null);
    }
    // A document that was built from these types can always be encoded as JSON.
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
    /// `no-cache` loads and refreshes the tiers. `no-store` loads and does not change the tiers.
    /// Both are granted a limited number of times a second. `only-if-cached` answers from the tiers
    /// or with 504.
    #[param(rename = "Cache-Control")]
    cache_control: Option<String>,
    /// `Consistency-Token` of an earlier answer of any instance. This answer will not be older.
    #[param(rename = "Consistency-Token")]
    consistency_token: Option<String>,
}

/// Headers of a change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct WriteHeaders {
    /// Versions that may be changed: `"3"`, or the `ETag` of an answer. 412 if none of them is the current version. Strong tags only.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
    /// Entity tags of states that must not be changed.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
    /// `fleet-consistent`: the answer waits half a second, until no instance serves older data.
    #[param(rename = "Prefer")]
    prefer: Option<String>,
}

/// Headers of a request that creates a resource.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct CreateHeaders {
    /// `fleet-consistent`: the answer waits half a second, until no instance serves older data.
    #[param(rename = "Prefer")]
    prefer: Option<String>,
}

/// The answer to a read: 200 with its headers, or 304.
pub struct CachedBody<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for CachedBody<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let with_headers = |response: ResponseBuilder| {
            response
                .header("ETag", text("Strong entity tag, computed from the bytes of the body."))
                .header("Age", number(
                        "Seconds since the answer was last known to be current. Left out when the database was read for this request.",
                    ))
                .header(
                    "Consistency-Token",
                    text("Stands for this answer: send it with a later read, and that one will not be older."),
                )
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
            .header("Content-Location", text("The resource whose state the body shows."))
            .header(
                "Consistency-Token",
                text("Stands for this write: a read that brings it shows it, on whatever instance."),
            )
            .header("Preference-Applied", text("`fleet-consistent` when that was preferred and waited for."));
        if STATUS == 201 {
            response = response.header("Location", text("The new resource."));
        }
        BTreeMap::from([(STATUS.to_string(), response.build().into())])
    }
}

/// The answer to an order: the same as to any POST, with a flag for replays.
pub struct Placed;

impl IntoResponses for Placed {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Written::<Order, 201>::responses();
        let replayed = text("`true` when the idempotency key was used before: the answer is the first request's.");
        for response in responses.values_mut() {
            if let RefOr::T(response) = response {
                response.headers.insert("Idempotency-Replayed".into(), RefOr::T(replayed.clone()));
            }
        }
        responses
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    fn document() -> Value {
        serde_json::from_str(&crate::http::document()).unwrap()
    }

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let committed = include_str!("../../../openapi/openapi.json");
        let served = crate::http::document();
        assert!(committed == served, "run: cargo run -- openapi > openapi/openapi.json");
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|field| references(field, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn no_parameter_can_be_null() {
        let document = document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for parameter in
                item.as_object().unwrap().values().flat_map(|operation| operation["parameters"].as_array()).flatten()
            {
                assert!(!parameter["schema"].to_string().contains("null"), "{path}: {parameter}");
            }
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_a_tag_and_its_problems() {
        let document = document();
        let mut names = HashSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} is taken twice");
                assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{method} {path}");
                let responses = &operation["responses"];
                let has_problems = responses.get("503").or(responses.get("default")).is_some();
                assert!(has_problems || matches!(name, "livez" | "list_problems"), "{method} {path}");
            }
        }
    }
}
