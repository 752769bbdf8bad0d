//! The headers of one kind of answer, prepared once. Each answer gets a copy with its own values
//! filled in, which costs half as much as building the headers for each answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::consistency::CONSISTENCY_TOKEN;

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const NOTHING: HeaderValue = HeaderValue::from_static("");

const OWN_COUNT: usize = 6;

/// The headers whose value differs in every answer. A header without a value is left out.
pub(crate) const OWN: [HeaderName; OWN_COUNT] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ETAG, header::AGE, CACHE_STATUS, CONSISTENCY_TOKEN];

/// More headers than any kind of answer has. The capacity is reserved once.
const CAPACITY: usize = 12;

/// The headers that all answers of one kind have in common. They tell caches and browsers how to
/// handle the answers.
///
/// ```
/// use aside_axum::HeaderTemplate;
/// use axum::http::{HeaderValue, header};
/// use std::sync::LazyLock;
///
/// /// One customer's data: only the customer's own browser may store them.
/// static PERSONAL: LazyLock<HeaderTemplate> = LazyLock::new(|| {
///     let authorization = HeaderValue::from_static("authorization");
///     HeaderTemplate::new("private, no-cache").with(header::VARY, authorization)
/// });
/// # let _ = &*PERSONAL;
/// ```
#[derive(Clone, Debug)]
pub struct HeaderTemplate(HeaderMap);

impl HeaderTemplate {
    /// Answers with this `Cache-Control`, such as `public, max-age=5`. A stale answer gets
    /// `no-store` instead.
    ///
    /// # Panics
    /// If a header can't have this value.
    pub fn new(cache_control: &'static str) -> Self {
        let mut headers = HeaderMap::with_capacity(CAPACITY);
        headers.extend(OWN.map(|name| (name, NOTHING)));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
        Self(headers)
    }

    /// Adds a header with a constant value to all answers. A header that a layer fills in later can
    /// be added with an empty value, and then need not be added to each answer.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.insert(name, value);
        self
    }

    /// The headers of one answer. `own` has the values for [`OWN`], in its order.
    pub(crate) fn fill(&self, own: [Option<HeaderValue>; OWN_COUNT]) -> HeaderMap {
        let mut headers = self.0.clone();
        let left_out = own.each_ref().map(Option::is_none);
        for ((name, (place, value)), own) in OWN.iter().zip(headers.iter_mut()).zip(own) {
            debug_assert_eq!(place, name);
            *value = own.unwrap_or(NOTHING);
        }
        for (name, _) in OWN.iter().zip(left_out).filter(|(_, left_out)| *left_out) {
            headers.remove(name);
        }
        headers
    }
}
