//! The proxied connections of a process. They stop at a chosen message, so that a test can kill the
//! process at every step that is visible from outside.
//!
//! Between two of its messages, a process looks the same from outside. A test stops all connections
//! at once before or after message 1, 2, 3 and so on, and then kills the process. The process has
//! then been killed at every step that differs.
//!
//! A message is data sent in one piece. For Postgres it consists of whole protocol messages, up to
//! the point at which the sender waits. The connections must not be encrypted.

use std::{
    future::pending,
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The protocol of a connection. The process is the server of HTTP and the client of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Postgres,
    Redis,
    Http,
}

/// A message that the proxy forwarded.
#[derive(Clone, Debug)]
pub struct Message {
    pub speech: Speech,
    /// Whether the process sent it. Otherwise the process received it.
    pub sent: bool,
    pub bytes: Vec<u8>,
}

impl Message {
    /// Returns whether the process sent these words on a connection of `speech`.
    pub fn says(&self, speech: Speech, words: &str) -> bool {
        self.sent && self.speech == speech && contains(&self.bytes, words)
    }
}

/// The message at which all connections stop. Counted messages are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The proxy does not forward the message.
    Before(usize),
    /// The proxy forwards the message, and no later one.
    After(usize),
}

/// A function that decides whether a message counts.
type Counts = Box<dyn Fn(&Message) -> bool + Send>;

/// The connections of one process. Dropping it ends them.
pub struct Wire(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stopped: CancellationToken,
    ended: CancellationToken,
    connections: TaskTracker,
}

#[derive(Default)]
struct State {
    wanted: Option<(Counts, Stop)>,
    counted: usize,
    passed: Vec<Message>,
    shut: bool,
}

/// The decision about a message.
enum Passage {
    Free,
    /// The proxy forwards it, and no later one.
    Last,
    Shut,
}

impl Wire {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Starts one more proxy, to `target`, and returns its address. If the process sends
    /// `background` on a connection, that connection carries background work. Its messages never
    /// count.
    pub async fn to(&self, target: impl Into<String>, speech: Speech, background: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port for a line");
        let address = listener.local_addr().expect("the line's address");
        let (shared, target) = (self.0.clone(), target.into());
        tokio::spawn(async move {
            let accept = async {
                while let Ok((near, _)) = listener.accept().await {
                    let line = Line { shared: shared.clone(), speech, background, quiet: AtomicBool::new(false) };
                    shared.connections.spawn(line.serve(near, target.clone()));
                }
            };
            shared.ended.run_until_cancelled(accept).await;
        });
        address
    }

    /// Records messages from now on and counts those that `count` accepts. All connections stop at
    /// one of them.
    pub fn stop_at(&self, stop: Stop, count: impl Fn(&Message) -> bool + Send + 'static) {
        let mut state = self.0.state();
        assert!(state.wanted.is_none() && !state.shut, "lines stop once");
        state.wanted = Some((Box::new(count), stop));
    }

    /// Returns when the connections have stopped at the message.
    pub async fn stopped(&self) {
        self.0.stopped.cancelled().await;
    }

    /// Stops the connections now and returns whether they had stopped already.
    pub fn stop(&self) -> bool {
        mem::replace(&mut self.0.state().shut, true)
    }

    /// Returns the messages that the proxy has forwarded since [`Wire::stop_at`].
    pub fn passed(&self) -> Vec<Message> {
        self.0.state().passed.clone()
    }

    /// Closes the connections, as the system does for a killed process. Returns when the servers
    /// have handled all messages that had reached them.
    pub async fn end(self) {
        self.0.ended.cancel();
        self.0.connections.close();
        self.0.connections.wait().await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.ended.cancel();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, message: &Message) -> Passage {
        let mut state = self.state();
        if state.shut {
            return Passage::Shut;
        }
        let Some((counts, stop)) = &state.wanted else { return Passage::Free };
        let (counts, stop) = (counts(message), *stop);
        state.counted += usize::from(counts);
        let here = counts && matches!(stop, Stop::Before(at) | Stop::After(at) if at == state.counted);
        state.shut = here;
        if here && matches!(stop, Stop::Before(_)) {
            self.stopped.cancel();
            return Passage::Shut;
        }
        state.passed.push(message.clone());
        if here { Passage::Last } else { Passage::Free }
    }
}

/// One proxied connection.
struct Line {
    shared: Arc<Shared>,
    speech: Speech,
    background: &'static str,
    quiet: AtomicBool,
}

impl Line {
    async fn serve(self, mut near: TcpStream, target: String) {
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        {
            let (near_reads, near_writes) = near.split();
            let (far_reads, far_writes) = far.split();
            tokio::select! {
                () = self.pump(near_reads, far_writes, true) => {}
                () = self.pump(far_reads, near_writes, false) => {}
                () = self.shared.ended.cancelled() => {}
            }
        }
        drop(near);
        // A server closes its side after it has handled all earlier messages.
        let _ = far.shutdown().await;
        let mut rest = [0; 1024];
        while let Ok(1..) = far.read(&mut rest).await {}
    }

    async fn pump(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, asks: bool) {
        let (mut piece, mut bytes, mut first) = (vec![0; 16 * 1024], Vec::new(), asks);
        loop {
            let Ok(length @ 1..) = from.read(&mut piece).await else { return };
            bytes.extend_from_slice(&piece[..length]);
            if self.speech == Speech::Postgres && !are_whole(&bytes, first) {
                continue;
            }
            first = false;
            let sent = asks != (self.speech == Speech::Http);
            let message = Message { speech: self.speech, sent, bytes: mem::take(&mut bytes) };
            if sent && !self.background.is_empty() && contains(&message.bytes, self.background) {
                self.quiet.store(true, Ordering::Release);
            }
            let passage = match self.quiet.load(Ordering::Acquire) && !self.shared.state().shut {
                true => Passage::Free,
                false => self.shared.admit(&message),
            };
            let open = !matches!(passage, Passage::Shut) && to.write_all(&message.bytes).await.is_ok();
            match passage {
                Passage::Free if open => continue,
                Passage::Free => return,
                Passage::Last => self.shared.stopped.cancel(),
                Passage::Shut => {}
            }
            // The connection stays open without traffic. The process must not notice the stop
            // before it is killed.
            pending::<()>().await;
        }
    }
}

/// Returns whether these bytes are whole messages of Postgres. Each has a type, a length that
/// counts itself, and a body. The first one of a client has no type.
fn are_whole(mut bytes: &[u8], mut first: bool) -> bool {
    while !bytes.is_empty() {
        let typed = usize::from(!mem::take(&mut first));
        let Some(&[a, b, c, d]) = bytes.get(typed..typed + 4) else { return false };
        let Some(rest) = bytes.get(typed + u32::from_be_bytes([a, b, c, d]) as usize..) else { return false };
        bytes = rest;
    }
    true
}

fn contains(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}
