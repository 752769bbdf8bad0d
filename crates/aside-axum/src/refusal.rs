//! The refusals of this crate: requests that get no representation. The crate writes no error
//! documents of its own. A service turns a [`Refusal`] into its own error by `From`.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// Why a request gets no representation.
///
/// As a response it is one line of text. An extractor of this crate answers with that response when
/// it refuses a request, and stores the refusal in the extensions of the response. A layer of the
/// service can replace it by a document of its own:
///
/// ```
/// use aside_axum::Refusal;
/// use axum::{
///     http::StatusCode,
///     response::{IntoResponse, Response},
/// };
///
/// /// For `axum::middleware::map_response`.
/// async fn with_problems(mut response: Response) -> Response {
///     match response.extensions_mut().remove::<Refusal>() {
///         Some(refusal) => (refusal.status(), format!("problem: {refusal}")).into_response(),
///         None => response,
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let response = with_problems(Refusal::NotCached.into_response()).await;
/// assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A header can't be read, and ignoring it would do something that the client does not want.
    #[error("{header} {rule}")]
    MalformedHeader {
        /// The name of the header.
        header: &'static str,
        /// The rule for its value, as the rest of a sentence that begins with the name.
        rule: &'static str,
    },
    /// The value does not exist.
    #[error("there is no such resource")]
    Absent,
    /// `If-Match` names none of the representations that the resource has now.
    #[error("If-Match names no current representation")]
    PreconditionFailed,
    /// The request sent a consistency token, and polls of the ledger are late. Nothing proves at
    /// the moment that an answer is not older than the token.
    #[error("nothing proves that an answer would not be older than the token")]
    TokenNotReached,
    /// The request allows no load, and no tier holds an answer that may be served.
    #[error("no tier holds an answer that may be served")]
    NotCached,
}

impl Refusal {
    /// The status of the response: 400, 404, 412, 503 or 504.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MalformedHeader { .. } => StatusCode::BAD_REQUEST,
            Self::Absent => StatusCode::NOT_FOUND,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TokenNotReached => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotCached => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for Refusal {
    /// Forbids storing, because a cache may otherwise store a 404 for as long as it likes.
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_string()).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_stored_and_travels_with_its_response() {
        let malformed = Refusal::MalformedHeader { header: "If-Match", rule: "must be *" };
        for (refusal, status) in [(malformed, 400), (Refusal::Absent, 404), (Refusal::PreconditionFailed, 412)] {
            let response = refusal.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.extensions().get(), Some(&refusal));
        }
    }
}
