//! The small layers of this service that `tower-http` does not have. `public_server.rs` puts all
//! layers around the router. None of them boxes the future of a request.

use std::{
    convert::Infallible,
    future::ready,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tower::{Layer, Service, layer::layer_fn, service_fn, timeout::Timeout};

use super::{
    problem::{Kind, Problem},
    routes::Route,
};

/// A service that answers every request. It is always ready, as axum's router is, so layers call it
/// without asking.
pub trait HttpService:
    Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + Sync + 'static
{
}

impl<S> HttpService for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Answers a request with the problem that `check` finds, instead of passing it on.
pub fn refuse<S: HttpService, C>(check: C) -> impl Layer<S, Service = impl HttpService>
where
    C: Fn(&Request) -> Result<(), Problem> + Clone + Send + Sync + 'static,
{
    layer_fn(move |mut inner: S| {
        let check = check.clone();
        service_fn(move |request| match check(&request) {
            Ok(()) => inner.call(request).left_future(),
            Err(problem) => ready(Ok(problem.into_response())).right_future(),
        })
    })
}

/// Limits the reads of resources in flight, and refuses the others at once. The cache limits their
/// wait for Postgres by time. This limits the memory that waiting reads use. Writes need no permit,
/// because their bodies may take long to arrive.
pub fn limit_reads<S: HttpService>(limit: ReadLimit) -> impl Layer<S, Service = impl HttpService> {
    layer_fn(move |mut inner: S| {
        let limit = limit.clone();
        service_fn(move |request: Request| {
            let is_limited = Route::of(&request).resource && request.method().is_safe();
            match is_limited.then(|| limit.try_acquire()) {
                Some(Err(problem)) => ready(Ok(problem.into_response())).right_future(),
                permit => inner
                    .call(request)
                    .map(move |answer| {
                        drop(permit);
                        answer
                    })
                    .left_future(),
            }
        })
    })
}

/// How many reads of resources may be in flight on all connections.
#[derive(Clone, Debug)]
pub struct ReadLimit {
    max: usize,
    in_flight: Arc<AtomicUsize>,
}

/// The right to read a resource, until it is dropped.
struct ReadPermit(Arc<AtomicUsize>);

impl ReadLimit {
    /// Creates a limit without a read in flight.
    pub fn new(max: usize) -> Self {
        Self { max, in_flight: Arc::default() }
    }

    fn try_acquire(&self) -> Result<ReadPermit, Problem> {
        let permit = ReadPermit(Arc::clone(&self.in_flight));
        if permit.0.fetch_add(1, Ordering::Relaxed) < self.max {
            return Ok(permit);
        }
        let detail = "The service has as many requests in memory as MAX_REQUESTS allows.";
        Err(Problem::new(&Kind::OVERLOADED, detail).with_cause("too many requests"))
    }
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers with a problem when the time limit is reached. The limit stops no write: a write that has
/// begun runs to its end. An immediate answer starts no timer.
pub fn limit_time<S: HttpService>(limit: Duration) -> impl Layer<S, Service = impl HttpService> {
    let late = || Problem::new(&Kind::TIMEOUT, "The answer was not ready in time.").with_cause("time limit");
    layer_fn(move |inner: S| {
        let mut inner = Timeout::new(inner, limit);
        service_fn(move |request| {
            inner.call(request).map(move |ended| Ok(ended.unwrap_or_else(|_elapsed| late().into_response())))
        })
    })
}

/// Answers with a problem when a handler panics. The layer of `tower-http` boxes the body of every
/// response. The router calls a handler only when its future is polled.
pub fn catch_panics<S: HttpService>() -> impl Layer<S, Service = impl HttpService> {
    let problem = |_panic| Ok(Problem::internal("a handler panicked").into_response());
    layer_fn(move |mut inner: S| {
        service_fn(move |request| {
            AssertUnwindSafe(inner.call(request)).catch_unwind().map(move |ended| ended.unwrap_or_else(problem))
        })
    })
}
