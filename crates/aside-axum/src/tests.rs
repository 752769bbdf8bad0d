//! Requests to a router whose handlers use this crate. The database is never reached: each load
//! returns a value of its own.

use std::time::Duration;

use aside_cache::{Cache, CacheConfig, Cacheable, DbTime, Error, Key, LoadFailure, Loaded, Policy};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, Method, Request, StatusCode},
    response::Response,
    routing::get,
};
use tower::ServiceExt;

use super::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Note {
    version: i64,
}

impl Cacheable for Note {
    const POLICY: Policy = Policy::public("note", Duration::from_hours(1));
}

async fn get_note(
    State(access): State<CacheAccess>,
    Path(id): Path<i64>,
    request: ReadRequest,
) -> Result<Response, Refusal> {
    let load = move |_pool| async move {
        let value = (id < 10).then_some(Note { version: id });
        Ok::<_, Error>(Loaded { value, tag_versions: vec![], loaded_at: DbTime(0), valid_until: None })
    };
    let read = match access.cache().get(Key::new(id)).mode(request.mode()).load(load).await {
        Ok(read) => read,
        Err(Error::Load(LoadFailure::NotCached)) => return Err(Refusal::NotCached),
        Err(error) => panic!("{error}"),
    };
    let answer = Representation::versioned(&read, |note: &Note| note.version)?;
    request.respond(answer, &HeaderTemplate::new("public, max-age=5"))
}

async fn change_note(Path(id): Path<i64>, conditions: Conditions) -> Result<Response, StatusCode> {
    conditions.expected().check(id).map_err(|_| StatusCode::PRECONDITION_FAILED)?;
    written(StatusCode::OK, &format!("/notes/{id}"), id, "{}".into()).map_err(|_| StatusCode::BAD_REQUEST)
}

async fn mode(request: ReadRequest) -> String {
    format!("{:?} {:?}", request.mode(), request.max_age())
}

/// A service whose clients may force this number of loads per second.
fn service(forced_loads: u32) -> Router {
    let pool = sqlx::postgres::PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let access = CacheAccess::new(Cache::start(CacheConfig::default(), pool), forced_loads);
    Router::new()
        .route("/notes/{id}", get(get_note).patch(change_note))
        .route("/mode", get(mode))
        .layer(ConsistencyLayer::new(access.cache().clone()))
        .with_state(access)
}

async fn send(service: &Router, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Bytes) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status.as_u16(), parts.headers, to_bytes(body, usize::MAX).await.unwrap())
}

#[tokio::test]
async fn a_read_is_answered_by_its_conditions_and_directives() {
    let service = service(50);
    let (status, headers, body) = send(&service, Method::GET, "/notes/7", &[]).await;
    assert_eq!((status, &body[..]), (200, &b"{\"version\":7}"[..]));
    let tag = headers["etag"].to_str().unwrap();
    let old = "\"6-00000000000000ab\"";
    for (path, header, status) in [
        ("/notes/7", ("if-none-match", tag), 304),
        ("/notes/7", ("if-none-match", old), 200),
        ("/notes/7", ("if-match", tag), 200),
        ("/notes/7", ("if-match", old), 412),
        ("/notes/7", ("if-match", "7"), 400),
        ("/notes/7", ("if-none-match", "7"), 200),
        ("/notes/7", ("consistency-token", "x"), 400),
        ("/notes/7", ("cache-control", "no-store"), 200),
        ("/notes/7", ("cache-control", "only-if-cached"), 504),
        ("/notes/11", ("if-match", old), 404),
    ] {
        let (answered, headers, body) = send(&service, Method::GET, path, &[header]).await;
        assert_eq!(answered, status, "{path} {header:?}");
        assert_eq!(body.is_empty(), status == 304, "{path} {header:?}");
        let stored = if matches!(status, 200 | 304) { "public, max-age=5" } else { "no-store" };
        assert_eq!(headers["cache-control"], stored, "{path} {header:?}");
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let service = service(50);
    let (_, get, _) = send(&service, Method::GET, "/notes/7", &[]).await;
    let (status, head, body) = send(&service, Method::HEAD, "/notes/7", &[]).await;
    assert_eq!((status, body.is_empty(), &head["content-length"]), (200, true, &get["content-length"]));
    assert_eq!(head["etag"], get["etag"]);
}

#[tokio::test]
async fn a_write_changes_only_the_version_that_its_client_has_seen() {
    let service = service(50);
    let (_, headers, _) = send(&service, Method::GET, "/notes/7", &[]).await;
    let tag = headers["etag"].to_str().unwrap();
    for (header, status) in [
        (("if-match", tag), 200),
        (("if-match", "\"6-00000000000000ab\""), 412),
        (("if-none-match", "*"), 412),
        (("if-none-match", "7"), 400),
    ] {
        let (answered, headers, _) = send(&service, Method::PATCH, "/notes/7", &[header]).await;
        assert_eq!(answered, status, "{header:?}");
        assert_eq!(headers.contains_key("content-location"), status == 200, "{header:?}");
    }
}

#[tokio::test]
async fn clients_force_no_more_loads_than_the_budget_has() {
    for header in [("cache-control", "no-cache, max-age=9"), ("cache-control", "max-age=9, no-store")] {
        let service = service(1);
        let (_, _, forced) = send(&service, Method::GET, "/mode", &[header]).await;
        let (_, _, beyond) = send(&service, Method::GET, "/mode", &[header]).await;
        assert!(forced == "Reload Some(9s)" || forced == "NoStore Some(9s)", "{forced:?}");
        assert_eq!(beyond, "Default Some(9s)");
    }
    let (service, token) = (service(1), ("consistency-token", "0a1b-17"));
    assert_eq!(send(&service, Method::GET, "/mode", &[token]).await.2, "Reload None", "a token of another epoch");
    assert_eq!(send(&service, Method::GET, "/mode", &[token]).await.2, "Default None");
    let only_if_cached = ("cache-control", "only-if-cached");
    assert_eq!(send(&service, Method::GET, "/mode", &[token, only_if_cached]).await.0, 504);
}
