//! The load generator: keep-alive connections that send prepared requests one after the other, on a
//! separate core. It parses only the parts of HTTP that it needs to find the end of an answer. So
//! it costs less than any server.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, LocalSet},
};

use crate::pin::{CLIENTS, pin};

/// The load of one run.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub lasting: Duration,
}

/// The measurements of one run.
pub struct Sample {
    /// Answers a second.
    pub rate: f64,
    /// Processor time of the server for an answer, in microseconds.
    pub processor: f64,
    /// Times in microseconds, sorted.
    pub micros: Vec<u32>,
}

impl Sample {
    /// The time within which this part of the answers came, in microseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        let at = (part * (self.micros.len() - 1) as f64).round() as usize;
        f64::from(self.micros[at])
    }
}

/// The bytes of a GET.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n").into_bytes()
}

/// Sends `requests` in turn over all connections until the time is over. With `once`, each of them
/// is sent at most once.
pub fn run(address: SocketAddr, requests: &[Vec<u8>], load: Load, once: bool) -> Sample {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            pin(CLIENTS);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, send(address, requests.to_vec(), load, once))
        });
        thread.join().expect("the clients end")
    })
}

async fn send(address: SocketAddr, requests: Vec<Vec<u8>>, load: Load, once: bool) -> Sample {
    let (requests, mut connections) = (std::rc::Rc::new(requests), JoinSet::new());
    let begun = Instant::now();
    for number in 0..load.connections {
        let requests = std::rc::Rc::clone(&requests);
        connections.spawn_local(async move {
            let mut connection = Connection::open(address).await;
            let (mut micros, mut at) = (Vec::with_capacity(1 << 16), number);
            while begun.elapsed() < load.lasting && !(once && at >= requests.len()) {
                let sent = Instant::now();
                connection.ask(&requests[at % requests.len()]).await;
                micros.push(sent.elapsed().as_micros() as u32);
                at += load.connections;
            }
            micros
        });
    }
    let mut micros = connections.join_all().await.concat();
    let rate = micros.len() as f64 / begun.elapsed().as_secs_f64();
    micros.sort_unstable();
    Sample { rate, processor: f64::NAN, micros }
}

/// One complete answer: the bytes of its head and of its body.
pub async fn whole(address: SocketAddr, request: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut connection = Connection::open(address).await;
    let body_from = connection.ask(request).await;
    (connection.buffer[..body_from].to_vec(), connection.buffer[body_from..connection.filled].to_vec())
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, buffer: vec![0; 64 * 1024], filled: 0 }
    }

    /// Sends a request and reads the answer. Returns the position at which its body begins.
    async fn ask(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).await.expect("a request is sent");
        self.filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[self.filled..]).await.expect("an answer");
            assert!(read > 0, "the server hung up");
            self.filled += read;
            let answer = &self.buffer[..self.filled];
            let Some(head) = memmem::find(answer, b"\r\n\r\n") else { continue };
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
            if self.filled >= head + 4 + content_length(&answer[..head]) {
                return head + 4;
            }
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"\ncontent-length: ";
    let at = memmem::find(head, NAME).expect("a length");
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
}
