//! Problems: every error that this listener sends, in the format of RFC 9457. They are built only
//! here.
//!
//! A problem never contains SQL, a stack trace or a secret. The details for the operator go to the
//! log line of the request. The URI of its type is served under `/problems/{name}`. Each problem
//! forbids storing, because a cache may otherwise store a 404 or a 405 for as long as it likes.

mod domain;
mod kinds;

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

pub use kinds::Kind;

/// The media type of every problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One occurrence of a problem. It is boxed, because it is the error of nearly every function here.
#[derive(Clone, Debug)]
pub struct Problem(Box<Occurrence>);

#[derive(Clone, Debug)]
struct Occurrence {
    kind: &'static Kind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

/// The body of a problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDetails {
    /// URI of the type; a page explains it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/validation")]
    kind: String,
    /// The same for every occurrence of the type.
    #[schema(example = "Validation failed")]
    title: &'static str,
    /// The status of the response.
    #[schema(example = 422)]
    status: u16,
    /// What is wrong with this request.
    #[schema(example = "`price_cents` must be between 0 and 1000000000.")]
    detail: Cow<'static, str>,
    /// The path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/products")]
    instance: Option<String>,
    /// The id under which the service logged the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "0198b7a2-5c1e-7d3a-9f00-2f6f3c1a7b55")]
    request_id: Option<String>,
    /// Each fault by itself, where there can be several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// One fault of a request and its place. Exactly one of the places is given.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The rule that is broken.
    #[schema(example = "must be at least 0")]
    detail: String,
    /// JSON pointer into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/price_cents")]
    pointer: Option<String>,
    /// Name of a parameter of the path or the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameter: Option<String>,
    /// Name of a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    header: Option<&'static str>,
}

impl Problem {
    /// Creates an occurrence of `kind`. `detail` is a sentence that helps the client.
    pub fn new(kind: &'static Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self(Box::new(Occurrence { kind, detail, errors: Vec::new(), headers: Vec::new(), cause: None }))
    }

    /// The body breaks rules. Each item has a JSON pointer and a rule, which is the rest of a
    /// sentence about the member.
    pub fn validation(broken: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut problem = Self::new(&Kind::VALIDATION, "");
        problem.0.errors.extend(broken.into_iter().map(|(pointer, detail)| FieldError {
            detail,
            pointer: Some(pointer),
            parameter: None,
            header: None,
        }));
        problem.tell_the_first()
    }

    /// A parameter of the path or the query is not valid.
    pub fn parameter(name: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::parameters([(name.into(), rule.into())])
    }

    /// Several parameters are not valid. Each item has a name and a rule.
    pub fn parameters(broken: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut problem = Self::new(&Kind::INVALID_PARAMETER, "");
        problem.0.errors.extend(broken.into_iter().map(|(name, detail)| FieldError {
            detail,
            pointer: None,
            parameter: Some(name),
            header: None,
        }));
        problem.tell_the_first()
    }

    /// A header is not valid.
    pub fn header(name: &'static str, rule: impl Into<String>) -> Self {
        let mut problem = Self::new(&Kind::INVALID_PARAMETER, "");
        problem.0.errors.push(FieldError { detail: rule.into(), pointer: None, parameter: None, header: Some(name) });
        problem.tell_the_first()
    }

    /// Sets the detail to the first of the errors, as a sentence. Every rule is the rest of a
    /// sentence about its place, such as `must be given`.
    fn tell_the_first(mut self) -> Self {
        if let Some(FieldError { detail, pointer, parameter, header }) = self.0.errors.first() {
            let place = match (pointer.as_deref(), parameter.as_deref()) {
                (Some(""), _) => "The body".to_owned(),
                (Some(pointer), _) => format!("`{}`", pointer.trim_start_matches('/')),
                (None, Some("")) => "A parameter without a name".to_owned(),
                (None, parameter) => format!("`{}`", parameter.or(*header).unwrap_or_default()),
            };
            self.0.detail = format!("{place} {detail}.").into();
        }
        self
    }

    /// A defect of the service. `cause` is only logged.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::new(&Kind::INTERNAL, "The service failed. Its log has the reason under this request id.")
            .with_cause(cause)
    }

    /// Adds a cause for the log. It must never contain a value that the client sent.
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds a header to the response.
    pub fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds a header with a constant value.
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    fn with_pointer(mut self, pointer: String, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError { detail: detail.into(), pointer: Some(pointer), parameter: None, header: None });
        self
    }

    /// The cause for the log line of the request.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The name of the type for the log line of the request.
    pub fn name(&self) -> &'static str {
        self.0.kind.name
    }

    /// The response, with the path and the id of the request if they are known.
    pub fn render(&self, instance: Option<String>, request_id: Option<String>) -> Response {
        let Occurrence { kind, detail, errors, headers, .. } = &*self.0;
        let body = ProblemDetails {
            kind: format!("/problems/{}", kind.name),
            title: kind.title,
            status: kind.status.as_u16(),
            detail: detail.clone(),
            instance,
            request_id,
            errors: errors.clone(),
        };
        let mut response = (kind.status, Json(body)).into_response();
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = kind.retry_after {
            out.insert(header::RETRY_AFTER, seconds.into());
        }
        out.extend(headers.iter().cloned());
        response
    }
}

impl IntoResponse for Problem {
    /// Also stores the problem in the response's extensions. The outermost layer knows the path and
    /// id of the request and renders it again with both (`Observation::complete`).
    fn into_response(self) -> Response {
        let mut response = self.render(None, None);
        response.extensions_mut().insert(self);
        response
    }
}
