//! The response to a write that shows the new state.

use axum::{
    body::Bytes,
    http::{HeaderValue, StatusCode, header, header::InvalidHeaderValue},
    response::{IntoResponse, Response},
};

use super::entity_tag::EntityTag;

/// Builds the response to a write that returns the new state as JSON. It is a representation of the
/// resource at `path`, so the client can use its entity tag for the next `If-Match`. A 201 also
/// names `path` as its `Location`. No cache may store the response.
///
/// # Errors
/// If `path` can't be the value of a header.
///
/// ```
/// use axum::http::StatusCode;
///
/// let response = aside_axum::written(StatusCode::CREATED, "/products/7", 1, "{}".into())?;
/// assert_eq!(response.headers()["location"], "/products/7");
/// # Ok::<_, axum::http::header::InvalidHeaderValue>(())
/// ```
pub fn written(status: StatusCode, path: &str, version: i64, body: Bytes) -> Result<Response, InvalidHeaderValue> {
    let path = HeaderValue::try_from(path)?;
    let tag = EntityTag::of(Some(version), &body).header();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::CREATED {
        headers.insert(header::LOCATION, path.clone());
    }
    headers.insert(header::CONTENT_LOCATION, path);
    Ok(response)
}
