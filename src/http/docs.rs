//! The pages for people: the API explorer at `/docs`, its document at `/openapi.json`, and a page
//! for every type of problem under `/problems`. All assets are in the binary. The pages load
//! nothing from other hosts, and their content policy forbids it.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use aside_axum::Conditions;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{Redirect, Response},
    routing::get,
};
use serde::Serialize;
use utoipa::{ToSchema, openapi::OpenApi};

use super::{
    WebState,
    constant::Constant,
    negotiation, openapi,
    problem::{Kind, Problem},
};

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);
/// An hour, because the assets change only with a deployment.
const ASSET: HeaderValue = HeaderValue::from_static("public, max-age=3600");
/// The browser revalidates it every time, because the explorer must describe the service that
/// answers.
const DOCUMENT: HeaderValue = HeaderValue::from_static("no-cache");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The answers that were requested so far, by path. Types of problem are also keyed by media type.
/// All instances in a process share them.
static ASSETS: LazyLock<Mutex<HashMap<String, Arc<Constant>>>> = LazyLock::new(Mutex::default);

#[derive(Clone)]
struct Pages {
    explorer: Arc<utoipa_swagger_ui::Config<'static>>,
    document: Bytes,
}

/// The explorer and its document. Neither is part of the document.
pub fn routes(api: &OpenApi) -> Router<WebState> {
    let explorer = utoipa_swagger_ui::Config::from("/openapi.json")
        .try_it_out_enabled(true)
        .display_request_duration(true)
        .display_operation_id(true)
        // The default would send the document's address to a server on the internet.
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

async fn document(State(pages): State<Pages>, conditions: Conditions, headers: HeaderMap) -> Result<Response, Problem> {
    let make = move || Ok(Constant::new(JSON, pages.document));
    made_once("/openapi.json".into(), make).await?.respond(&headers, &conditions, DOCUMENT)
}

async fn front_page(
    State(pages): State<Pages>,
    conditions: Conditions,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    asset(String::new(), pages, &conditions, &headers).await
}

async fn explorer_file(
    State(pages): State<Pages>,
    file: Result<Path<String>, PathRejection>,
    conditions: Conditions,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Ok(Path(file)) = file else { return Err(no_such_file()) };
    asset(file, pages, &conditions, &headers).await
}

fn no_such_file() -> Problem {
    Problem::new(&Kind::NO_SUCH_ROUTE, "The explorer has no such file.")
}

async fn asset(file: String, pages: Pages, conditions: &Conditions, headers: &HeaderMap) -> Result<Response, Problem> {
    let path = format!("/docs/{file}");
    let make = move || {
        let found = utoipa_swagger_ui::serve(&file, pages.explorer)
            .map_err(|_| Problem::internal("the explorer's configuration has no JSON form"))?
            .ok_or_else(no_such_file)?;
        let content_type = HeaderValue::try_from(found.content_type)
            .map_err(|_| Problem::internal("a file of the explorer has no content type"))?;
        Ok(Constant::new(content_type, found.bytes.into_owned().into()))
    };
    let mut response = made_once(path, make).await?.respond(headers, conditions, ASSET)?;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}

/// Returns the cached answer for `name`, or builds one outside the threads that serve requests.
async fn made_once(
    name: String,
    make: impl FnOnce() -> Result<Constant, Problem> + Send + 'static,
) -> Result<Arc<Constant>, Problem> {
    let known = || ASSETS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(constant) = known().get(&name).cloned() {
        return Ok(constant);
    }
    let made = tokio::task::spawn_blocking(make).await;
    let made = Arc::new(made.map_err(|_| Problem::internal("a page could not be made"))??);
    // Only existing pages are cached, which bounds the memory.
    known().insert(name, Arc::clone(&made));
    Ok(made)
}

/// A type of problem, explained.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemType {
    /// The URI that problems carry as their `type`.
    #[serde(rename = "type")]
    #[schema(example = "/problems/version-conflict")]
    uri: String,
    #[schema(example = "Version conflict")]
    title: &'static str,
    #[schema(example = 412)]
    status: u16,
    /// When it happens and how the client can react.
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
pub async fn list_problems(conditions: Conditions, headers: HeaderMap) -> Result<Response, Problem> {
    let make = || Ok(json(&Kind::ALL.into_iter().map(ProblemType::from).collect::<Vec<_>>()));
    made_once("/problems".into(), make).await?.respond(&headers, &conditions, ASSET)
}

/// Explains a type of problem: JSON for programs, a page for browsers.
#[utoipa::path(get, path = "/problems/{name}", tag = "problems", security(()),
    params(("name" = String, Path, description = "Last segment of the type's URI.", example = "version-conflict")),
    responses((status = 200, description = "The type.", content((ProblemType = "application/json"), (String = "text/html"))), openapi::Explain))]
pub async fn get_problem(
    name: Result<Path<String>, PathRejection>,
    conditions: Conditions,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind = name.ok().and_then(|Path(name)| Kind::ALL.into_iter().find(|kind| kind.name == name));
    let kind =
        kind.ok_or_else(|| Problem::new(&Kind::NOT_FOUND, "No problem has this type. /problems lists all types."))?;
    let media_type = negotiation::media_type(&headers, &["application/json", "text/html"]);
    let make = move || {
        Ok(match media_type {
            "text/html" => Constant::new(HTML, page(kind).into()),
            _ => json(&ProblemType::from(kind)),
        })
    };
    let name = format!("/problems/{} {media_type}", kind.name);
    let mut response = made_once(name, make).await?.respond(&headers, &conditions, ASSET)?;
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}

fn json(value: &impl Serialize) -> Constant {
    // Texts and numbers can always be encoded as JSON.
    Constant::new(JSON, serde_json::to_vec(value).unwrap_or_default().into())
}

/// Renders the page of a type of problem. The texts are constants of this program without
/// characters that HTML would have to escape.
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
