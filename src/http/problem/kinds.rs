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
        "A parameter is not valid",
        "A part of the path, a query parameter or a header has a form that this route does not understand. `errors` names each. \
         Unknown and repeated query parameters are refused too, because ignoring a misspelt filter would answer another question.",
    );
    pub const MALFORMED_BODY: Self = Self::new(
        "malformed-body",
        StatusCode::BAD_REQUEST,
        "The body is not valid JSON",
        "The body is empty, not UTF-8 or breaks the syntax of JSON, so it was not read further.",
    );
    pub const UNAUTHENTICATED: Self = Self::new(
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "Nobody can tell who you are",
        "The route asks for a bearer token (JWT), and there was none, or one that is malformed, expired, meant for somebody else or \
         signed by nobody who is known here.",
    );
    pub const FORBIDDEN: Self = Self::new(
        "forbidden",
        StatusCode::FORBIDDEN,
        "You may not do this",
        "The token is valid and lacks the scope that the route asks for: orders:read, orders:write or products:write.",
    );
    pub const RATE_LIMITED: Self = Self::new(
        "rate-limited",
        StatusCode::TOO_MANY_REQUESTS,
        "Too many requests",
        "Each tenant may send so many requests a second, and each address so many without a valid token; `Retry-After` says when there is room again.",
    );
    pub const NOT_FOUND: Self = Self::new(
        "not-found",
        StatusCode::NOT_FOUND,
        "There is no such thing",
        "The path is well formed but names nothing that exists or that the caller may see.",
    );
    pub const OTHER_REGION: Self = Self::new(
        "other-region",
        StatusCode::MISDIRECTED_REQUEST,
        "The data may not be read here",
        "A policy keeps the tenant's data from being read outside of its home region. Ask an instance in that region.",
    );
    pub const NO_SUCH_ROUTE: Self = Self::new(
        "no-such-route",
        StatusCode::NOT_FOUND,
        "There is no such route",
        "The service has no route with this path. The routes are listed at /docs.",
    );
    pub const METHOD_NOT_ALLOWED: Self = Self::new(
        "method-not-allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "The route does not have this method",
        "The header `Allow` lists the methods that the route has.",
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
        "The body took too long to arrive",
        "The service stopped waiting for the rest of the body. Nothing was done; the request may be sent again.",
    );
    pub const INVALID_TRANSITION: Self = Self::new(
        "invalid-transition",
        StatusCode::CONFLICT,
        "The order can't change to this status",
        "Orders go from pending to confirmed to shipped to delivered; pending and confirmed ones may be cancelled.",
    );
    pub const OUT_OF_STOCK: Self = Self::new(
        "out-of-stock",
        StatusCode::CONFLICT,
        "There is not enough in stock",
        "Nothing was ordered: an order is placed whole or not at all. `errors` names the items that ask for too much.",
    );
    pub const IDEMPOTENCY_IN_PROGRESS: Self = Self::new(
        "idempotency-in-progress",
        StatusCode::CONFLICT,
        "A request with this Idempotency-Key is still running",
        "Send the same request again after the time that `Retry-After` gives: it will then answer the first one's result.",
    )
    .retry_after(1);
    pub const VERSION_CONFLICT: Self = Self::new(
        "version-conflict",
        StatusCode::PRECONDITION_FAILED,
        "The resource is in another state than the request expects",
        "`If-Match` names no current version, or `If-None-Match` names the current one. Nothing was changed. Read the resource \
         again, look at what changed, and send the request with the new entity tag.",
    );
    pub const PAYLOAD_TOO_LARGE: Self = Self::new(
        "payload-too-large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body is too large",
        "The body is longer than this service reads.",
    );
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self::new(
        "unsupported-media-type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body has a media type or coding that the route does not read",
        "`Accept`, for PATCH also `Accept-Patch`, and for codings `Accept-Encoding` say what the route reads.",
    );
    pub const VALIDATION: Self = Self::new(
        "validation",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The body breaks rules",
        "The body is JSON, but a field is missing, unknown, of the wrong type or breaks a rule. `errors` points to each \
         with a JSON pointer.",
    );
    pub const IDEMPOTENCY_MISMATCH: Self = Self::new(
        "idempotency-mismatch",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The Idempotency-Key was used for another request",
        "A key belongs to the first request that carried it. Use a new key for a new order.",
    );
    pub const INTERNAL: Self = Self::new(
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "The service failed",
        "A defect in the service. It is in the service's log under the problem's `request_id`.",
    );
    pub const OVERLOADED: Self = Self::new(
        "overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "The service has too much to do",
        "The request could not be answered within its time limit, so it changed nothing. Try again after `Retry-After`.",
    )
    .retry_after(1);
    pub const UNAVAILABLE: Self = Self::new(
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "The database does not answer",
        "Try again after `Retry-After`. A write may or may not have been done: read first, or repeat it with its Idempotency-Key.",
    )
    .retry_after(5);
    // The status is 503 and not 504. The service is the origin, not a gateway, and 504 already
    // means "not cached" here.
    pub const TIMEOUT: Self = Self::new(
        "timeout",
        StatusCode::SERVICE_UNAVAILABLE,
        "The answer took too long",
        "The service gave up waiting. A write may or may not have been done: read first, or repeat it with its Idempotency-Key.",
    )
    .retry_after(1);
    pub const NOT_CACHED: Self = Self::new(
        "not-cached",
        StatusCode::GATEWAY_TIMEOUT,
        "There is no cached answer",
        "The request said `only-if-cached`, and no tier holds an answer that may be served.",
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
