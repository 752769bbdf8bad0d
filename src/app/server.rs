//! Serving HTTP on one listener, with an end: a listener that can be closed while its requests finish, and connections that
//! can't be held open by clients that send nothing. (`axum::serve` sets no such limits.)

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::StartError;

/// Until a connection's first request has come whole.
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// From the end of one request until the next has come. Longer than the idle limit of usual load balancers (60 s), or they
/// would send a request into a connection that is just being closed.
const NEXT_REQUEST_LIMIT: Duration = Duration::from_secs(75);
/// Pause after an error of the listener itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How a server is asked to end: politely, then not.
#[derive(Clone, Default)]
pub struct Stop {
    /// Close the listener and idle connections; requests under way finish.
    pub polite: CancellationToken,
    /// Drop all connections.
    pub now: CancellationToken,
}

/// Binds `addr`; a taken port is an error that names the setting.
pub async fn bind(addr: std::net::SocketAddr, setting: &str) -> Result<TcpListener, StartError> {
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

/// Serves until `stop`; returns when the last connection has ended.
pub async fn serve(listener: TcpListener, router: Router, stop: Stop) {
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            () = stop.polite.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_connection(stream, router.clone(), stop.clone()))),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted at the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection(stream: TcpStream, router: Router, stop: Stop) {
    // Small answers leave at once, instead of waiting for more to send.
    let _ = stream.set_nodelay(true);
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let service =
        TowerToHyperService::new(router.map_request(move |request: hyper::Request<hyper::body::Incoming>| {
            seen.store(true, Ordering::Relaxed);
            request
        }));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST_LIMIT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(NEXT_REQUEST_LIMIT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut first = pin!(tokio::time::sleep(FIRST_REQUEST_LIMIT));
    let (mut waiting, mut stopping) = (true, false);
    loop {
        tokio::select! {
            biased;
            () = stop.now.cancelled() => return,
            () = stop.polite.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error, "a connection ended in an error");
                }
                return;
            }
            () = first.as_mut(), if waiting => {
                waiting = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

/// Whether only the connection being accepted is affected, not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
