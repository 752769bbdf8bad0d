//! The connection to Memcached that all calls share. Commands are pipelined, and answers arrive in
//! the order of the commands.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::item::MAX_ITEM_BYTES;
use crate::tiers::l2::L2Error;

/// Timeout to connect, and of each answer once all previous ones have arrived. After it the
/// connection counts as broken.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest time between two attempts to connect.
const RECONNECT_BACKOFF: Duration = Duration::from_millis(100);
/// Calls that may wait to be sent.
const MAX_QUEUED_CALLS: usize = 1_024;
/// Longest line of an answer, in bytes.
const MAX_LINE_BYTES: u64 = 2_048;
/// Longest answer to `stats`, in bytes.
const MAX_STATS_BYTES: usize = 65_536;

/// Holds the present connection and replaces it.
pub(super) struct ConnectionManager {
    pub(super) address: String,
    current: Mutex<Option<Connection>>,
}

impl ConnectionManager {
    pub(super) fn new(address: String) -> Self {
        Self { address, current: Mutex::default() }
    }

    /// Sends commands, and returns one answer for each.
    pub(super) async fn ask(&self, commands: Vec<u8>, count: usize) -> Result<Vec<Reply>, L2Error> {
        let (answer, answered) = oneshot::channel();
        self.connection()?
            .try_send(Call { commands, count, answer })
            .map_err(|_| L2Error("too many calls wait".into()))?;
        let replies = answered.await.map_err(|_| L2Error("the connection to Memcached broke".into()))?;
        // If one command was refused, the caller needs only the error and no other answer.
        match replies.iter().find_map(|reply| if let Reply::ServerError(why) = reply { Some(why) } else { None }) {
            Some(why) => Err(L2Error(why.clone())),
            None => Ok(replies),
        }
    }

    /// The present connection, or a new one if there is none or it is broken.
    fn connection(&self) -> Result<mpsc::Sender<Call>, L2Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(connection) if !connection.calls.is_closed() => return Ok(connection.calls.clone()),
            Some(connection) if connection.begun.elapsed() < RECONNECT_BACKOFF => {
                return Err(L2Error("the connection to Memcached broke a moment ago".into()));
            }
            _ => {}
        }
        let (calls, waiting) = mpsc::channel(MAX_QUEUED_CALLS);
        tokio::spawn(serve(self.address.clone(), waiting));
        *current = Some(Connection { calls: calls.clone(), begun: Instant::now() });
        Ok(calls)
    }
}

/// A connection. It is broken when its task has ended.
struct Connection {
    calls: mpsc::Sender<Call>,
    begun: Instant,
}

struct Call {
    commands: Vec<u8>,
    count: usize,
    answer: oneshot::Sender<Vec<Reply>>,
}

/// A call that was sent: the number of its commands and the channel for the answers.
type Sent = (usize, oneshot::Sender<Vec<Reply>>);

/// Connects, and sends calls until the connection breaks. The channels of the waiting calls then
/// close, which wakes their callers.
async fn serve(address: String, calls: mpsc::Receiver<Call>) {
    let Ok(Ok(stream)) = timeout(RESPONSE_TIMEOUT, TcpStream::connect(&address)).await else { return };
    // The messages are small, and a caller waits for each.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (sent, pending) = mpsc::unbounded_channel();
    let broken = tokio::select! {
        broken = send(writer, calls, sent) => broken,
        broken = receive(BufReader::new(reader), pending) => broken,
    };
    if let Err(error) = broken {
        tracing::debug!(%error, "the connection to Memcached broke");
    }
}

async fn send(
    mut writer: OwnedWriteHalf,
    mut calls: mpsc::Receiver<Call>,
    sent: mpsc::UnboundedSender<Sent>,
) -> std::io::Result<()> {
    while let Some(Call { commands, count, answer }) = calls.recv().await {
        // The call must be queued before it is written. A server that reads nothing is then
        // detected by the missing answer.
        if sent.send((count, answer)).is_err() {
            break;
        }
        writer.write_all(&commands).await?;
    }
    Ok(())
}

async fn receive(
    mut reader: BufReader<OwnedReadHalf>,
    mut pending: mpsc::UnboundedReceiver<Sent>,
) -> std::io::Result<()> {
    while let Some((count, answer)) = pending.recv().await {
        let replies = async {
            let mut replies = Vec::with_capacity(count);
            while replies.len() < count {
                replies.push(Reply::read(&mut reader).await?);
            }
            std::io::Result::Ok(replies)
        };
        // The caller may have given up. Its answer must be read all the same, because the next
        // answer follows it.
        let _ = answer.send(timeout(RESPONSE_TIMEOUT, replies).await??);
    }
    Ok(())
}

/// The answer to one command.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// An item. `data` is `None` if it is longer than any item of this cache.
    Item {
        cas: u64,
        left: u64,
        data: Option<Bytes>,
    },
    Stored,
    NotFound,
    /// Another client has changed or added the item.
    CasConflict,
    /// The lines of an answer to `stats`.
    Stats(String),
    /// The server's message for a command that it did not execute.
    ServerError(String),
}

impl Reply {
    /// Reads one answer. An invalid answer ends the connection, because the start of the next
    /// answer is unknown then.
    async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Self> {
        let line = read_line(reader).await?;
        let mut words = line.split(' ');
        Ok(match words.next().unwrap_or_default() {
            "HD" | "MN" => Self::Stored,
            "EN" | "NF" => Self::NotFound,
            "EX" | "NS" => Self::CasConflict,
            "VA" => {
                let size = words.next().and_then(|size| size.parse().ok()).ok_or_else(|| foreign(&line))?;
                let flag = |name: char| line.split(' ').skip(2).find_map(|word| word.strip_prefix(name)?.parse().ok());
                let cas = flag('c').and_then(|cas: i64| cas.try_into().ok()).ok_or_else(|| foreign(&line))?;
                // This cache writes no item without an expiry (-1).
                let left = flag('t').unwrap_or_default().max(0) as u64;
                Self::Item { cas, left, data: read_data(reader, size).await? }
            }
            "STAT" => {
                let mut lines = line;
                loop {
                    let line = read_line(reader).await?;
                    if line == "END" {
                        return Ok(Self::Stats(lines));
                    }
                    if !line.starts_with("STAT ") || lines.len() > MAX_STATS_BYTES {
                        return Err(foreign(&line));
                    }
                    lines = format!("{lines}\n{line}");
                }
            }
            // The server has read the whole command and refused it.
            "SERVER_ERROR" => Self::ServerError(line),
            _ => return Err(foreign(&line)),
        })
    }
}

fn foreign(line: &str) -> std::io::Error {
    std::io::Error::other(format!("not an answer of Memcached: {:?}", line.chars().take(80).collect::<String>()))
}

async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<String> {
    let mut line = Vec::new();
    (&mut *reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
    let text = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    text.map(str::to_owned).ok_or_else(|| foreign(&String::from_utf8_lossy(&line)))
}

/// Reads an item's data. Data longer than any item of this cache is skipped, without being held in
/// memory.
async fn read_data(reader: &mut (impl AsyncBufRead + Unpin), size: u64) -> std::io::Result<Option<Bytes>> {
    let mut data = Vec::new();
    if size <= MAX_ITEM_BYTES as u64 {
        (&mut *reader).take(size).read_to_end(&mut data).await?;
    } else {
        tokio::io::copy(&mut (&mut *reader).take(size), &mut tokio::io::sink()).await?;
    }
    let mut end = [0; 2];
    reader.read_exact(&mut end).await?;
    let whole = data.len() as u64 == size || size > MAX_ITEM_BYTES as u64;
    if end != *b"\r\n" || !whole {
        return Err(foreign("data of another length"));
    }
    Ok((size <= MAX_ITEM_BYTES as u64).then(|| data.into()))
}
