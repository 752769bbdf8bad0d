//! Consistency that a client may request beyond the service's guarantees. With `Consistency-Token`,
//! the answer is never older than an answer that the client has seen on any instance. With
//! `Prefer: fleet-consistent`, a write is acknowledged only when no instance serves older data any
//! more. The cache implements the protocol of both.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use aside_cache::{Cache, ConsistencyToken};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts},
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{refusal::Refusal, text::Text};

/// The name of the header with a consistency token, in both directions.
pub const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const FLEET_CONSISTENT: &str = "fleet-consistent";

/// The token that a request sent, if it sent one. [`ReadRequest`](super::ReadRequest) follows it
/// already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientToken(pub Option<ConsistencyToken>);

impl ClientToken {
    pub(crate) const MALFORMED: Refusal = Refusal::MalformedHeader {
        header: "Consistency-Token",
        rule: "must be one token, as an earlier answer gave it",
    };

    /// Reads the token.
    ///
    /// # Errors
    /// Returns [`Refusal::MalformedHeader`] if there are several, or if it is not a token.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(CONSISTENCY_TOKEN).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let token = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|_| values.next().is_none());
        token.map(|token| Self(Some(token))).ok_or(Self::MALFORMED)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientToken {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Self::parse(&parts.headers)
    }
}

/// The value of `Consistency-Token` for an answer that was read at `token`.
pub fn token_header(token: &ConsistencyToken) -> HeaderValue {
    Text::default().put(token.epoch()).put("-").number(token.moment().0).value()
}

/// Gives each answer the consistency that its request asked for. It stands around a router, and
/// boxes the future of a request only if the request waits for all instances.
///
/// ```
/// use aside_axum::ConsistencyLayer;
/// use aside_cache::Cache;
/// use axum::Router;
///
/// fn with_consistency(router: Router, cache: &Cache) -> Router {
///     router.layer(ConsistencyLayer::new(cache.clone()))
/// }
/// ```
#[derive(Clone)]
pub struct ConsistencyLayer {
    cache: Cache,
}

impl ConsistencyLayer {
    /// Creates the layer for answers of this cache.
    pub fn new(cache: Cache) -> Self {
        Self { cache }
    }
}

impl<S> Layer<S> for ConsistencyLayer {
    type Service = Consistency<S>;

    fn layer(&self, inner: S) -> Consistency<S> {
        Consistency { inner, cache: self.cache.clone() }
    }
}

/// The service that [`ConsistencyLayer`] makes.
#[derive(Clone)]
pub struct Consistency<S> {
    inner: S,
    cache: Cache,
}

impl<S, B, R> Service<Request<B>> for Consistency<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ConsistencyFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (demand, cache) = (Demand::of(&request), self.cache.clone());
        ConsistencyFuture { state: State::Answering { answer: self.inner.call(request), demand, cache } }
    }
}

pin_project! {
    /// The future of [`Consistency`].
    pub struct ConsistencyFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, R> {
        Answering {
            #[pin]
            answer: F,
            demand: Demand,
            cache: Cache,
        },
        // The answer of a write waits until no instance serves older data.
        Waiting {
            instances: Pin<Box<dyn Future<Output = ()> + Send>>,
            response: Option<Response<R>>,
            cache: Cache,
        },
    }
}

impl<F, R, E> Future for ConsistencyFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut state = self.project().state;
        loop {
            let waiting = match state.as_mut().project() {
                StateProjection::Answering { answer, demand, cache } => {
                    let mut response = ready!(answer.poll(cx))?;
                    if !demand.waits() || !response.status().is_success() {
                        let token = demand.token(cache, &response);
                        set_token(&mut response, token);
                        return Poll::Ready(Ok(response));
                    }
                    let (fleet, cache) = (cache.clone(), cache.clone());
                    let instances = Box::pin(async move { fleet.await_fleet().await });
                    State::Waiting { instances, response: Some(response), cache }
                }
                StateProjection::Waiting { instances, response, cache } => {
                    ready!(instances.as_mut().poll(cx));
                    let mut response = response.take().expect("a future is not polled after its end");
                    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(FLEET_CONSISTENT));
                    set_token(&mut response, cache.token_now());
                    return Poll::Ready(Ok(response));
                }
            };
            state.set(waiting);
        }
    }
}

/// The consistency that a request requires of its answer.
enum Demand {
    /// A read, with the token that the request sent. The answer's token must not be older.
    Read(Option<ConsistencyToken>),
    /// A write, whose answer carries a token. With `fleet`, the answer waits until no instance
    /// serves older data.
    Write { fleet: bool },
}

impl Demand {
    fn of<B>(request: &Request<B>) -> Self {
        match request.method().is_safe() {
            true => Self::Read(token_of(request.headers())),
            false => Self::Write { fleet: prefers_fleet(request.headers()) },
        }
    }

    fn waits(&self) -> bool {
        matches!(self, Self::Write { fleet: true })
    }

    /// The token of the answer. A token ahead of this instance is not repeated, because no instance
    /// has issued it.
    fn token<R>(&self, cache: &Cache, response: &Response<R>) -> Option<ConsistencyToken> {
        match self {
            Self::Read(sent) => {
                let sent = sent.clone()?;
                token_of(response.headers())?.overtaken_by(sent).filter(|token| cache.has_reached(token))
            }
            Self::Write { .. } => response.status().is_success().then(|| cache.token_now())?,
        }
    }
}

fn set_token<R>(response: &mut Response<R>, token: Option<ConsistencyToken>) {
    if let Some(token) = token {
        response.headers_mut().insert(CONSISTENCY_TOKEN, token_header(&token));
    }
}

/// The token of a message, if it has one that can be read.
fn token_of(headers: &HeaderMap) -> Option<ConsistencyToken> {
    ClientToken::parse(headers).ok().and_then(|ClientToken(token)| token)
}

/// Returns whether the request prefers `fleet-consistent`. Preferences are a list of tokens with
/// optional values and parameters (RFC 7240), and unknown ones are ignored.
fn prefers_fleet(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut names = lists.flat_map(|list| list.split(',')).filter_map(|one| one.split([';', '=']).next());
    names.any(|name| name.trim().eq_ignore_ascii_case(FLEET_CONSISTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_preference_is_found_among_others() {
        for (values, expected) in [
            (&["fleet-consistent"][..], true),
            (&["respond-async, Fleet-Consistent; wait=1"], true),
            (&["wait=10", "fleet-consistent"], true),
            (&["not-fleet-consistent"], false),
            (&["x=\"fleet-consistent\""], false),
            (&[], false),
        ] {
            assert_eq!(prefers_fleet(&headers(PREFER, values)), expected, "{values:?}");
        }
    }

    #[test]
    fn one_token_is_taken_and_anything_else_refused() {
        let parse = |values| ClientToken::parse(&headers(CONSISTENCY_TOKEN, values));
        assert!(matches!(parse(&[]), Ok(ClientToken(None))));
        assert!(matches!(parse(&["0a1b-17"]), Ok(ClientToken(Some(_)))));
        for wrong in [&["x"] as &[_], &[""], &["a-1", "a-1"], &["a-1, a-2"], &["a--1"]] {
            assert_eq!(parse(wrong), Err(ClientToken::MALFORMED), "{wrong:?}");
        }
    }
}
