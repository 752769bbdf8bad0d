//! A TCP proxy between the service and one of its servers. With it a test cuts, stalls or slows the
//! network between them.
//!
//! A fault applies at once to open connections and to new ones. The proxy ends with its last
//! handle.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::eventually;

/// The fault that the proxy applies to the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Forwards everything.
    None,
    /// Resets open connections, and every new one at once. The machine is reachable, but it refuses
    /// the traffic.
    Cut,
    /// Resets open connections and stops listening, as if the server did not run.
    Refuse,
    /// Accepts and reads, but forwards nothing. The server seems to hang.
    BlackHole,
    /// Forwards requests and drops the responses. The server does the work, but the client never
    /// learns of it.
    HalfOpen,
    /// Delays every piece by this time, in both directions.
    Delay(Duration),
}

/// A running proxy. Dropping it closes the listener and all connections.
pub struct Proxy {
    address: SocketAddr,
    fault: Arc<watch::Sender<Fault>>,
    silenced: Arc<watch::Sender<u64>>,
    target: Arc<watch::Sender<String>>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free port in front of `target` (`host:port`).
    pub async fn before(target: impl Into<String>) -> Self {
        let target = Arc::new(watch::Sender::new(target.into()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port for the proxy");
        let address = listener.local_addr().expect("the proxy's address");
        let fault = Arc::new(watch::Sender::new(Fault::None));
        let silenced = Arc::new(watch::Sender::new(0));
        let listener = tokio::spawn(listen(listener, address, target.clone(), fault.clone(), silenced.clone()));
        Self { address, fault, silenced, target, listener }
    }

    /// Returns the address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Applies this fault from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Applies [`Fault::Cut`].
    pub fn cut(&self) {
        self.set(Fault::Cut);
    }

    /// Stops forwarding on the connections that are open now, without closing them. New connections
    /// work.
    pub fn silence_open(&self) {
        self.silenced.send_modify(|silences| *silences += 1);
    }

    /// Leads new connections to another server (`host:port`). Open connections stay as they are.
    pub fn lead_to(&self, target: impl Into<String>) {
        self.target.send_replace(target.into());
    }

    /// Ends the fault. Connections that were cut remain closed, so clients have to connect again.
    pub fn restore(&self) {
        self.set(Fault::None);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn listen(
    mut listener: TcpListener,
    address: SocketAddr,
    target: Arc<watch::Sender<String>>,
    faults: Arc<watch::Sender<Fault>>,
    silenced: Arc<watch::Sender<u64>>,
) {
    let (mut refused, mut mended) = (faults.subscribe(), faults.subscribe());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted),
            _ = refused.wait_for(|fault| *fault == Fault::Refuse) => None,
        };
        match accepted {
            Some(Ok((client, _))) => {
                let target = target.borrow().clone();
                drop(tokio::spawn(serve(client, target, faults.subscribe(), silenced.subscribe())));
            }
            Some(Err(_)) => {}
            None => {
                drop(listener);
                let _ = mended.wait_for(|fault| *fault != Fault::Refuse).await;
                let again = || async { TcpListener::bind(address).await.ok() };
                listener = eventually("the proxy's port is free again", again).await;
            }
        }
    }
}

fn severs(fault: &Fault) -> bool {
    matches!(fault, Fault::Cut | Fault::Refuse)
}

async fn serve(client: TcpStream, target: String, mut fault: watch::Receiver<Fault>, silenced: watch::Receiver<u64>) {
    // Dropping a socket with zero linger sends a reset instead of a normal close.
    let _ = client.set_zero_linger();
    let _ = client.set_nodelay(true);
    if fault.wait_for(|fault| *fault != Fault::BlackHole).await.is_err() || severs(&fault.borrow()) {
        return;
    }
    let Ok(server) = TcpStream::connect(&target).await else { return };
    let _ = server.set_zero_linger();
    let _ = server.set_nodelay(true);
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    let mut cut = fault.clone();
    let before = *silenced.borrow();
    let is_silent = || *silenced.borrow() > before;
    tokio::select! {
        () = pump(&mut client_reads, &mut server_writes, fault.clone(), &is_silent, Direction::Request) => {}
        () = pump(&mut server_reads, &mut client_writes, fault.clone(), &is_silent, Direction::Answer) => {}
        _ = cut.wait_for(severs) => {}
    }
    // On a silent connection, neither side may learn that the other has closed it.
    if is_silent() {
        let _ = cut.wait_for(severs).await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    fault: watch::Receiver<Fault>,
    is_silent: &impl Fn() -> bool,
    direction: Direction,
) {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else { return };
        let now = *fault.borrow();
        match now {
            _ if is_silent() => continue,
            Fault::BlackHole => continue,
            Fault::HalfOpen if direction == Direction::Answer => continue,
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::None | Fault::HalfOpen | Fault::Cut | Fault::Refuse => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
