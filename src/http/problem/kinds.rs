//! The types of problem: one table of name, status, title and explanation. The pages under
//! `/problems`, the answers and the API document all use it.
//!
//! The status is 400 if the request can't be understood: its request line, its headers, or the
//! syntax of its body. It is 422 if the body is understood and breaks a rule.

use axum::http::StatusCode;

/// A type of problem: the properties that all its occurrences share.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Last segment of the type's URI.
    pub name: &'static str,
    pub title: &'static str,
    pub status: StatusCode,
    /// The number of seconds after which a retry makes sense.
    pub retry_after: Option<u32>,
    /// The text of the type's page: when the problem happens and how the client can react.
    pub about: &'static str,
}

impl Kind {
    const fn new(name: &'static str, status: StatusCode, title: &'static str, about: &'static str) -> Self {
        Self { name, title, status, retry_after: None, about }
    }

    const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub const INVALID_PARAMETER: Self = Self::new(
        "invalid-parameter",
        StatusCode::BAD_REQUEST,
        "Invalid parameter",
        "A part of the path, a query parameter or a header is not valid. `errors` names each. Unknown and repeated query \
         parameters are refused too: if a misspelt filter were ignored, the answer would be wrong.",
    );
    pub const MALFORMED_BODY: Self = Self::new(
        "malformed-body",
        StatusCode::BAD_REQUEST,
        "Malformed JSON",
        "The body is empty, not UTF-8, or not valid JSON. `detail` names the place.",
    );
    pub const UNAUTHENTICATED: Self = Self::new(
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "Authentication required",
        "The route needs a bearer token (JWT). There was none, or it is malformed, expired, meant for another audience, or signed \
         with an unknown key.",
    );
    pub const FORBIDDEN: Self = Self::new(
        "forbidden",
        StatusCode::FORBIDDEN,
        "Missing permission",
        "The token is valid, but it lacks the scope of the route: orders:read, orders:write or products:write.",
    );
    pub const RATE_LIMITED: Self = Self::new(
        "rate-limited",
        StatusCode::TOO_MANY_REQUESTS,
        "Too many requests",
        "The tenant, or an address without a valid token, has sent more requests than its limit for a second. Retry after `Retry-After`.",
    );
    pub const NOT_FOUND: Self = Self::new(
        "not-found",
        StatusCode::NOT_FOUND,
        "Not found",
        "The resource does not exist, or the caller may not see it.",
    );
    pub const OTHER_REGION: Self = Self::new(
        "other-region",
        StatusCode::MISDIRECTED_REQUEST,
        "Wrong region",
        "The data of this tenant may only be read in its home region. Send the request to an instance there.",
    );
    pub const NO_SUCH_ROUTE: Self = Self::new(
        "no-such-route",
        StatusCode::NOT_FOUND,
        "Unknown path",
        "The service has no route with this path. The explorer at /docs lists all routes.",
    );
    pub const METHOD_NOT_ALLOWED: Self = Self::new(
        "method-not-allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed",
        "The route exists, but not with this method. The header `Allow` lists its methods.",
    );
    pub const NOT_IMPLEMENTED: Self = Self::new(
        "not-implemented",
        StatusCode::NOT_IMPLEMENTED,
        "Unknown method",
        "No route of the service has this method.",
    );
    pub const REQUEST_TIMEOUT: Self = Self::new(
        "request-timeout",
        StatusCode::REQUEST_TIMEOUT,
        "Request timeout",
        "The body did not arrive in time. Nothing was done, and the request may be sent again.",
    );
    pub const INVALID_TRANSITION: Self = Self::new(
        "invalid-transition",
        StatusCode::CONFLICT,
        "Invalid status change",
        "Orders go from pending to confirmed to shipped to delivered. Pending and confirmed orders can be cancelled.",
    );
    pub const OUT_OF_STOCK: Self = Self::new(
        "out-of-stock",
        StatusCode::CONFLICT,
        "Out of stock",
        "Nothing was ordered, because an order is placed whole or not at all. `errors` names the items with too large a quantity.",
    );
    pub const IDEMPOTENCY_IN_PROGRESS: Self = Self::new(
        "idempotency-in-progress",
        StatusCode::CONFLICT,
        "Request in progress",
        "The first request with this Idempotency-Key has not ended. Send the same request again after `Retry-After` to get its answer.",
    )
    .retry_after(1);
    pub const VERSION_CONFLICT: Self = Self::new(
        "version-conflict",
        StatusCode::PRECONDITION_FAILED,
        "Version conflict",
        "`If-Match` does not name the current version, or `If-None-Match` names it. Nothing was changed. Read the resource again \
         and retry with its new version.",
    );
    pub const PAYLOAD_TOO_LARGE: Self = Self::new(
        "payload-too-large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "Body too large",
        "The body is longer than the limit, which `detail` names.",
    );
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self::new(
        "unsupported-media-type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Unsupported media type",
        "The route does not read this media type or content coding. The headers `Accept`, `Accept-Patch` and `Accept-Encoding` of \
         the answer list the ones that it reads.",
    );
    pub const VALIDATION: Self = Self::new(
        "validation",
        StatusCode::UNPROCESSABLE_ENTITY,
        "Validation failed",
        "The body is JSON, but a field is missing, unknown, of the wrong type, or out of range. `errors` points to each with a JSON \
         pointer, and `detail` is the first.",
    );
    pub const IDEMPOTENCY_MISMATCH: Self = Self::new(
        "idempotency-mismatch",
        StatusCode::UNPROCESSABLE_ENTITY,
        "Idempotency key reused",
        "This Idempotency-Key was used for a request with another body. Use a new key for a new order.",
    );
    pub const INTERNAL: Self = Self::new(
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
        "A defect of the service. Its log has the reason under the `request_id` of this problem.",
    );
    pub const OVERLOADED: Self = Self::new(
        "overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "Overloaded",
        "Too many requests at once. The request was not begun, so it changed nothing. Retry after `Retry-After`.",
    )
    .retry_after(1);
    pub const UNAVAILABLE: Self = Self::new(
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Database unavailable",
        "The database does not answer. Retry after `Retry-After`. A write may have been done: read first, or repeat it with its Idempotency-Key.",
    )
    .retry_after(5);
    // The status is 503 and not 504. The service is the origin, not a gateway, and 504 already
    // means "not cached" here.
    pub const TIMEOUT: Self = Self::new(
        "timeout",
        StatusCode::SERVICE_UNAVAILABLE,
        "Timeout",
        "The answer was not ready within the time limit. A write may have been done: read first, or repeat it with its Idempotency-Key.",
    )
    .retry_after(1);
    pub const NOT_CACHED: Self = Self::new(
        "not-cached",
        StatusCode::GATEWAY_TIMEOUT,
        "Not cached",
        "The request asked for `only-if-cached`, and no tier has an answer that may be served.",
    );

    /// All types in the order of their pages.
    pub const ALL: [&'static Self; 24] = [
        &Self::INVALID_PARAMETER,
        &Self::MALFORMED_BODY,
        &Self::UNAUTHENTICATED,
        &Self::FORBIDDEN,
        &Self::RATE_LIMITED,
        &Self::NOT_FOUND,
        &Self::OTHER_REGION,
        &Self::NO_SUCH_ROUTE,
        &Self::METHOD_NOT_ALLOWED,
        &Self::NOT_IMPLEMENTED,
        &Self::REQUEST_TIMEOUT,
        &Self::INVALID_TRANSITION,
        &Self::OUT_OF_STOCK,
        &Self::IDEMPOTENCY_IN_PROGRESS,
        &Self::VERSION_CONFLICT,
        &Self::PAYLOAD_TOO_LARGE,
        &Self::UNSUPPORTED_MEDIA_TYPE,
        &Self::VALIDATION,
        &Self::IDEMPOTENCY_MISMATCH,
        &Self::INTERNAL,
        &Self::OVERLOADED,
        &Self::UNAVAILABLE,
        &Self::TIMEOUT,
        &Self::NOT_CACHED,
    ];
}
