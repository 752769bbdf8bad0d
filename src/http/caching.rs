//! The kinds of cached answers of this service, and what it adds to the answers of `aside_axum`: the
//! outcome for the log line, and surrogate keys for a shared cache.

use std::{sync::LazyLock, time::Duration};

use aside_axum::{HeaderTemplate, ReadRequest, Representation};
use aside_cache::Outcome;
use axum::{
    body::Bytes,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;

use super::{
    WebState,
    observe::{self, NO_SNIFFING},
    problem::Problem,
    request_id::REQUEST_ID,
};
use crate::cdn::{SurrogateKeys, Tagged};

/// Catalogue data. It is public, but only for a short time, because an answer can't be taken back
/// from a browser. Five seconds absorb the repeated requests of a page. An outdated price does no
/// harm, because orders take their prices from the database. The two windows are defined in RFC
/// 5861.
static CATALOGUE: LazyLock<HeaderTemplate> =
    LazyLock::new(|| template("public, max-age=5, stale-while-revalidate=10, stale-if-error=60"));

/// One customer's data. Only the user's own browser may store it, and it must revalidate before
/// every reuse (304 when nothing changed).
static PERSONAL: LazyLock<HeaderTemplate> =
    LazyLock::new(|| template("private, no-cache").with(header::VARY, HeaderValue::from_static("authorization")));

/// All headers of a kind of answer, including the one that `observe` fills in, so that no header
/// has to be added later.
fn template(cache_control: &'static str) -> HeaderTemplate {
    let (name, value) = NO_SNIFFING;
    HeaderTemplate::new(cache_control).with(REQUEST_ID, HeaderValue::from_static("")).with(name, value)
}

/// The response to a GET or HEAD of the catalogue. It has surrogate keys if a shared cache is in
/// front of the service. A stale answer has none, because no cache may store it.
pub fn catalogue(state: &WebState, request: &ReadRequest, answer: Representation) -> Result<Response, Problem> {
    let mark = |surrogate_keys: &SurrogateKeys| {
        surrogate_keys.headers(&Tagged {
            pattern: answer.pattern,
            tag_versions: &answer.tag_versions,
            age: answer.age.unwrap_or_default(),
            left: answer.max_age.saturating_sub(answer.since_read).min(answer.valid_for.unwrap_or(Duration::MAX)),
            has_end: answer.valid_for.is_some(),
        })
    };
    let marks = state.cdn.as_ref().filter(|_| answer.outcome != Outcome::Stale).map(mark);
    let mut response = respond(request, answer, &CATALOGUE)?;
    response.headers_mut().extend(marks.into_iter().flatten());
    Ok(response)
}

/// The response to a GET or HEAD of one customer's data.
pub fn personal(request: &ReadRequest, answer: Representation) -> Result<Response, Problem> {
    respond(request, answer, &PERSONAL)
}

fn respond(request: &ReadRequest, answer: Representation, template: &HeaderTemplate) -> Result<Response, Problem> {
    let outcome = answer.outcome;
    let mut response = request.respond(answer, template)?;
    observe::note(&mut response, outcome);
    Ok(response)
}

/// The response to a write that returns the new state of the resource at `path`.
pub fn written(status: StatusCode, path: &str, version: i64, body: Bytes) -> Result<Response, Problem> {
    aside_axum::written(status, path, version, body).map_err(|_| Problem::internal("a path is not a header value"))
}

/// Encodes a value that was just written as JSON.
pub fn encode(value: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|_| Problem::internal("a value has no JSON form"))
}
