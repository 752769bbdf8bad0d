//! Serves HTTP on one listener with graceful shutdown. The listener can be closed while its
//! requests finish, and clients that send nothing can't hold connections open. `axum::serve` sets
//! no such limits.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use super::{StartError, proxy_protocol::ProxyHeaders};

/// The time limit for the complete head of a connection's first request.
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// A connection without a request in flight is closed after this time, at the latest after twice
/// this time. It is longer than the idle limit of usual load balancers (60 s). Otherwise they would
/// send a request into a connection that is just being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(75);
/// During shutdown, the time for which a connection may still send its last answer.
const QUIET: Duration = Duration::from_millis(500);
/// The pause after an error of the listener itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The two stages of a server's shutdown.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Closes the listener and idle connections. Requests in flight finish.
    pub graceful: CancellationToken,
    /// Drops all connections.
    pub immediate: CancellationToken,
}

/// Binds `addr`. The error for a taken port names the setting.
pub async fn bind(addr: SocketAddr, setting: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|error| StartError {
        what: format!("{setting} {addr} can't be listened on: {error}"),
        advice: match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("Something else listens there: stop it, or set {setting} to a free port.")
            }
            io::ErrorKind::PermissionDenied => {
                format!("Ports below 1024 need a privilege: set {setting} to a higher one.")
            }
            _ => format!("Set {setting} to an address of this machine."),
        },
    })
}

/// Serves until `shutdown`, on at most `most` connections at a time. `service` makes the service for
/// the connection of a client. It returns when the last connection has ended. Further clients wait
/// until a connection ends. `proxies` begin their connections with the address of their client.
pub async fn serve<S>(
    listener: TcpListener,
    most: usize,
    proxies: ProxyHeaders,
    service: impl Fn(IpAddr) -> S + Send + Sync + 'static,
    shutdown: Shutdown,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let (connections, room, service) = (TaskTracker::new(), Arc::new(Semaphore::new(most)), Arc::new(service));
    let mut complained = false;
    let accept = async || {
        let place = Arc::clone(&room).acquire_owned().await;
        (listener.accept().await, place)
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.graceful.cancelled() => break,
            (accepted, place) = accept() => match accepted {
                Ok((mut stream, peer)) => {
                    complained = false;
                    let (service, proxies, shutdown) = (Arc::clone(&service), proxies.clone(), shutdown.clone());
                    connections.spawn(async move {
                        let named = timeout(FIRST_REQUEST_LIMIT, proxies.client(&mut stream, peer.ip()));
                        match shutdown.graceful.run_until_cancelled(named).await {
                            Some(Ok(Ok(client))) => {
                                serve_connection(stream, service(client), shutdown).await;
                            }
                            Some(Ok(Err(error))) => tracing::debug!(%error, "a connection was refused"),
                            Some(Err(_)) | None => {}
                        }
                        drop(place);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::error!(%error, "failed to accept a connection; retrying");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection<S>(stream: TcpStream, service: S, shutdown: Shutdown)
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    // Small answers are sent at once instead of waiting for more data.
    let _ = stream.set_nodelay(true);
    let requests = Arc::new(Requests::default());
    let counted = Arc::clone(&requests);
    let service = service_fn(move |request: Request<Incoming>| {
        // The future is created where it is polled, because it is large and would otherwise be
        // moved.
        let (in_flight, mut service) = (InFlight::begin(&counted), service.clone());
        async move {
            let answer = service.call(request.map(Body::new)).await;
            drop(in_flight);
            answer
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(IDLE_LIMIT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // It is polled only when it is woken, not for every request.
    let mut end = FuturesUnordered::from_iter([must_end(&shutdown, &requests)]);
    let mut graceful = FuturesUnordered::from_iter([shutdown.graceful.cancelled()]);
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error, "a connection ended in an error");
                }
                return;
            }
            Some(()) = graceful.next() => connection.as_mut().graceful_shutdown(),
            Some(()) = end.next() => return,
        }
    }
}

/// Returns when a connection must end: at shutdown, or because the client sends no complete
/// requests or reads no answers.
async fn must_end(shutdown: &Shutdown, requests: &Requests) {
    let idle = async {
        sleep(FIRST_REQUEST_LIMIT).await;
        let mut ended = 0;
        while requests.begun() > ended {
            ended = requests.ended();
            sleep(IDLE_LIMIT).await;
        }
    };
    let quiet = async {
        if shutdown.graceful.run_until_cancelled(idle).await.is_none() {
            // A client that has sent half a request would otherwise delay the shutdown to its
            // limit.
            sleep(QUIET).await;
            while requests.begun() > requests.ended() {
                sleep(QUIET).await;
            }
        }
    };
    shutdown.immediate.run_until_cancelled(quiet).await;
}

/// The requests of one connection.
#[derive(Default)]
struct Requests {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Requests {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }
}

/// A guard of a request in flight.
struct InFlight(Arc<Requests>);

impl InFlight {
    fn begin(requests: &Arc<Requests>) -> Self {
        requests.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(requests))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns whether the error affects only the accepted connection and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Notify,
    };

    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server with a route `/gate`. The route notifies `reached` when it is called and answers
    /// after `open` was notified.
    async fn server(reached: Arc<Notify>, open: Arc<Notify>) -> (SocketAddr, Shutdown, JoinHandle<()>) {
        let gate = move || async move {
            reached.notify_one();
            open.notified().await;
            "done"
        };
        let router = Router::new().route("/gate", get(gate)).route("/quick", get(|| async { "quick" }));
        let listener = bind(([127, 0, 0, 1], 0).into(), "BIND_ADDR").await.unwrap();
        let (addr, shutdown) = (listener.local_addr().unwrap(), Shutdown::default());
        (
            addr,
            shutdown.clone(),
            tokio::spawn(serve(listener, 64, ProxyHeaders::default(), move |_peer| router.clone(), shutdown)),
        )
    }

    async fn connect(addr: SocketAddr, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    async fn read_all(mut stream: TcpStream) -> String {
        let mut text = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("the connection ends").unwrap();
        text
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_before_the_end() {
        let (reached, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (addr, shutdown, ended) = server(reached.clone(), open.clone()).await;
        let stream = connect(addr, "GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
        timeout(PATIENCE, reached.notified()).await.expect("the request arrives");
        shutdown.graceful.cancel();
        assert!(!ended.is_finished());
        open.notify_one();
        assert!(read_all(stream).await.ends_with("done"));
        timeout(PATIENCE, ended).await.expect("the server ends").unwrap();
        assert!(TcpStream::connect(addr).await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn neither_idle_connections_nor_half_requests_hold_up_the_end() {
        let (addr, shutdown, ended) = server(Arc::default(), Arc::default()).await;
        let mut held = Vec::new();
        for half in ["", "GET /quick HTTP/1.1\r\nhost:", "PRI * HT"] {
            held.push(connect(addr, half).await);
        }
        // Connections are accepted in order, so the answer on this one shows that the others were
        // accepted.
        let mut idle = connect(addr, "GET /quick HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let read = timeout(PATIENCE, idle.read(&mut [0; 1024])).await;
        assert!(read.expect("an answer").unwrap() > 0);
        shutdown.graceful.cancel();
        timeout(PATIENCE, ended).await.expect("the server ends").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_no_request_was_under_way_for_long() {
        let (shutdown, requests) = (Shutdown::default(), Arc::new(Requests::default()));
        let silent = timeout(FIRST_REQUEST_LIMIT + QUIET, must_end(&shutdown, &requests)).await;
        assert!(silent.is_ok(), "not one request came");
        // The request counts as answered, whether or not its client has read the answer.
        drop(InFlight::begin(&requests));
        assert!(timeout(IDLE_LIMIT, must_end(&shutdown, &requests)).await.is_err(), "the next request may still come");
        assert!(timeout(3 * IDLE_LIMIT, must_end(&shutdown, &requests)).await.is_ok());
        let _under_way = InFlight::begin(&requests);
        assert!(timeout(10 * IDLE_LIMIT, must_end(&shutdown, &requests)).await.is_err(), "it is worked on");
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_cut_off_when_told_so() {
        let reached = Arc::new(Notify::new());
        let (addr, shutdown, ended) = server(reached.clone(), Arc::default()).await;
        let stream = connect(addr, "GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
        timeout(PATIENCE, reached.notified()).await.expect("the request arrives");
        shutdown.graceful.cancel();
        shutdown.immediate.cancel();
        timeout(PATIENCE, ended).await.expect("the server ends").unwrap();
        assert_eq!(read_all(stream).await, "");
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_the_setting() {
        let taken = bind(([127, 0, 0, 1], 0).into(), "BIND_ADDR").await.unwrap();
        let error = bind(taken.local_addr().unwrap(), "MANAGEMENT_ADDR").await.unwrap_err();
        assert!(error.what.starts_with("MANAGEMENT_ADDR 127.0.0.1:"), "{error}");
        assert!(error.advice.contains("free port"), "{error}");
    }
}
