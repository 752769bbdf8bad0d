//! The pages for people: the API explorer at `/docs`, the document it reads at `/openapi.json`, and a page for every type of
//! problem under `/problems`. All assets are in the binary; nothing is fetched from elsewhere, and the pages' policy forbids it.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use serde::Serialize;
use utoipa::{ToSchema, openapi::OpenApi};

use super::{
    WebState, openapi,
    problem::{Kind, Problem},
};

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);
/// An hour: the assets change with a deployment only.
const ASSET: HeaderValue = HeaderValue::from_static("public, max-age=3600");
/// Asked for again every time: the explorer must describe the service that answers it.
const DOCUMENT: HeaderValue = HeaderValue::from_static("no-cache");

#[derive(Clone)]
struct Pages {
    explorer: Arc<utoipa_swagger_ui::Config<'static>>,
    document: Bytes,
}

/// The explorer and its document, which are not part of the document themselves.
pub fn routes(api: &OpenApi) -> Router<WebState> {
    let explorer = utoipa_swagger_ui::Config::from("/openapi.json")
        .try_it_out_enabled(true)
        .display_request_duration(true)
        .display_operation_id(true)
        // The default would send the address of the document to a server on the internet.
        .validator_url("none");
    let pages = Pages { explorer: Arc::new(explorer), document: openapi::json(api).into() };
    Router::new()
        .route("/", get(|| async { Redirect::to("/docs/") }))
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(front_page))
        .route("/docs/{*file}", get(explorer_file))
        .route("/openapi.json", get(document))
        .with_state(pages)
}

async fn document(State(pages): State<Pages>) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json")), (header::CACHE_CONTROL, DOCUMENT)],
        pages.document,
    )
        .into_response()
}

async fn front_page(State(pages): State<Pages>) -> Result<Response, Problem> {
    asset("", pages)
}

async fn explorer_file(
    State(pages): State<Pages>,
    file: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    match file {
        Ok(Path(file)) => asset(&file, pages),
        Err(_) => Err(no_such_file()),
    }
}

fn no_such_file() -> Problem {
    Problem::new(&Kind::NO_SUCH_ROUTE, "The explorer has no such file.")
}

fn asset(file: &str, pages: Pages) -> Result<Response, Problem> {
    let found = utoipa_swagger_ui::serve(file, pages.explorer)
        .map_err(|_| Problem::internal("the explorer's configuration has no JSON form"))?
        .ok_or_else(no_such_file)?;
    let mut response = Bytes::from(found.bytes.into_owned()).into_response();
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::try_from(found.content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if found.gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::CACHE_CONTROL, ASSET);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}

/// A type of problem, explained.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemType {
    /// The URI that problems carry as their `type`.
    #[serde(rename = "type")]
    #[schema(example = "/problems/version-conflict")]
    uri: String,
    #[schema(example = "The resource is in another state than the request expects")]
    title: &'static str,
    #[schema(example = 412)]
    status: u16,
    /// When it happens and what the client can do.
    about: &'static str,
}

impl From<&'static Kind> for ProblemType {
    fn from(kind: &'static Kind) -> Self {
        let uri = format!("/problems/{}", kind.name);
        Self { uri, title: kind.title, status: kind.status.as_u16(), about: kind.about }
    }
}

/// Lists the types of problem.
#[utoipa::path(get, path = "/problems", tag = "problems", security(()), responses(
    (status = 200, description = "All types.", body = Vec<ProblemType>),
))]
pub async fn list_problems() -> Response {
    let types: Vec<ProblemType> = Kind::ALL.into_iter().map(ProblemType::from).collect();
    ([(header::CACHE_CONTROL, ASSET)], Json(types)).into_response()
}

/// Explains a type of problem: JSON for programs, a page for browsers.
#[utoipa::path(get, path = "/problems/{name}", tag = "problems", security(()),
    params(("name" = String, Path, description = "Last segment of the type's URI.", example = "version-conflict")),
    responses((status = 200, description = "The type.", content((ProblemType = "application/json"), (String = "text/html"))), openapi::Explain))]
pub async fn get_problem(name: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Result<Response, Problem> {
    let kind = name.ok().and_then(|Path(name)| Kind::ALL.into_iter().find(|kind| kind.name == name));
    let kind =
        kind.ok_or_else(|| Problem::new(&Kind::NOT_FOUND, "There is no such type of problem; /problems lists them."))?;
    let wants_page = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|text| text.contains("text/html")));
    let vary = HeaderValue::from_static("accept");
    let common = [(header::CACHE_CONTROL, ASSET), (header::VARY, vary), (header::CONTENT_SECURITY_POLICY, POLICY)];
    Ok(if wants_page {
        (common, axum::response::Html(page(kind))).into_response()
    } else {
        (common, Json(ProblemType::from(kind))).into_response()
    })
}

/// The texts are constants of this program, free of characters that HTML would need escaped.
fn page(kind: &Kind) -> String {
    let Kind { name, title, status, about, .. } = kind;
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title>\
         <body style=\"font-family:sans-serif;max-width:40em;margin:3em auto;line-height:1.5\">\
         <h1>{title}</h1><p><code>/problems/{name}</code>, status {status}</p><p>{about}</p>\
         <p><a href=\"/docs/\">The API</a></p></body></html>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_problem_pages_need_no_escaping() {
        for kind in Kind::ALL {
            for text in [kind.name, kind.title, kind.about] {
                assert!(!text.is_empty() && !text.contains(['<', '>', '&']), "{text}");
            }
        }
    }

    #[test]
    fn names_of_problem_types_are_unique() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
