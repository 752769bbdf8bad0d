//! The id of a request: the log line, a problem and the audit name it, and the answer carries it.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
};

/// The header with the id of a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives a request an id. It keeps the client's id if that is short and safe in a log.
pub fn with_request_id(mut request: Request) -> Request {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let given = request.headers().get(REQUEST_ID).map(HeaderValue::as_bytes);
    if !given.is_some_and(|id| (1..=128).contains(&id.len()) && id.iter().all(harmless)) {
        request.headers_mut().insert(REQUEST_ID, new_request_id(Instant::now()));
    }
    request
}

/// A new id, ordered by time.
fn new_request_id(now: Instant) -> HeaderValue {
    /// The start time by both clocks. The monotonic clock is read for every request anyway.
    static START: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    // The id is not a secret, so the fast generator is sufficient. The system's generator would
    // cost a system call for every request.
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let (start, since_epoch) = *START;
    let now = (since_epoch + now.saturating_duration_since(start)).as_millis();
    let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(now).unwrap_or_default(), &random).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_request_ids_are_uuids_of_the_kind_that_time_orders() {
        let now = Instant::now();
        let id = new_request_id(now);
        let id = uuid::Uuid::parse_str(id.to_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_ne!(new_request_id(now), new_request_id(now));
    }
}
