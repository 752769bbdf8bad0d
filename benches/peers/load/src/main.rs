//! A load client. It sends the requests of its input, one path a line, over keep-alive connections,
//! and reports the outcomes as one line of JSON. Without `--rate`, each connection is a client that
//! waits for its answer before it sends the next request. With `--rate`, requests are sent by the
//! clock, whether or not earlier ones were answered.
//!
//! A time is that of a whole answer. With `--rate`, it begins when the request was due, so that a
//! late client does not make a server look faster.

mod connection;
mod outcome;

use std::{
    cell::{Cell, RefCell},
    io::Read,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{task::LocalSet, time};

use connection::Connection;
use outcome::Outcomes;

/// The maximum of open connections. A request that would need another one counts as failed.
const MAX_CONNECTIONS: usize = 6_000;
/// How long a client whose connection failed waits before it opens another one.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);

#[derive(Parser)]
struct Arguments {
    address: SocketAddr,
    /// Clients that send one request after the other
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Requests a second, by the clock, instead of clients
    #[arg(long)]
    rate: Option<f64>,
    /// How long requests are sent; their answers are still awaited afterwards
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Sends each request at most once, and ends when all were sent
    #[arg(long)]
    once: bool,
    #[arg(long, default_value = "GET")]
    method: String,
    /// Body of the requests; `{n}` in it becomes a number, another one in each request
    #[arg(long)]
    body: Option<String>,
    /// A header of each request, as `Name: value`
    #[arg(long)]
    header: Vec<String>,
}

/// One run.
struct Run {
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    /// How many requests all clients together have taken.
    taken: Cell<usize>,
    once: bool,
    begun: Instant,
    lasting: Duration,
    outcomes: RefCell<Outcomes>,
    idle: RefCell<Vec<Connection>>,
    open: Cell<usize>,
}

impl Run {
    fn next_request(&self) -> Option<&[u8]> {
        let at = self.taken.get();
        if self.begun.elapsed() >= self.lasting || (self.once && at >= self.requests.len()) {
            return None;
        }
        self.taken.set(at + 1);
        Some(&self.requests[at % self.requests.len()])
    }

    fn record(&self, since: Instant, status: Option<u16>) {
        self.outcomes.borrow_mut().record(self.begun.elapsed(), since.elapsed(), status);
    }

    /// Runs one client until the end of the run.
    async fn client(&self) {
        let mut connection = None;
        while let Some(request) = self.next_request() {
            let sent = Instant::now();
            if connection.is_none() {
                connection = Connection::open(self.address).await.ok();
            }
            let status = match connection.as_mut() {
                Some(open) => open.ask(request).await.ok(),
                None => None,
            };
            self.record(sent, status);
            if status.is_none() {
                connection = None;
                time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    /// Sends one request that was due at this moment.
    async fn request_of_the_clock(&self, due: Instant, at: usize) {
        let idle = self.idle.borrow_mut().pop();
        let connection = match idle {
            Some(connection) => Some(connection),
            None if self.open.get() < MAX_CONNECTIONS => {
                self.open.set(self.open.get() + 1);
                Connection::open(self.address).await.ok()
            }
            None => return self.record(due, None),
        };
        let Some(mut connection) = connection else {
            self.open.set(self.open.get() - 1);
            return self.record(due, None);
        };
        let status = connection.ask(&self.requests[at % self.requests.len()]).await.ok();
        self.record(due, status);
        match status {
            Some(_) => self.idle.borrow_mut().push(connection),
            None => self.open.set(self.open.get() - 1),
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    allow_many_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let line = LocalSet::new().block_on(&runtime, run(arguments));
    println!("{line}");
}

async fn run(arguments: Arguments) -> serde_json::Value {
    let mut paths = String::new();
    std::io::stdin().read_to_string(&mut paths).expect("the paths");
    // Different runs begin with different numbers.
    let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_micros() as usize);
    let numbered = paths.lines().zip(first..);
    let requests: Vec<Vec<u8>> = numbered.map(|(path, number)| bytes_of(&arguments, path, number)).collect();
    assert!(!requests.is_empty(), "the input names no path");
    let run = Rc::new(Run {
        address: arguments.address,
        requests,
        taken: Cell::new(0),
        once: arguments.once,
        begun: Instant::now(),
        lasting: Duration::from_secs_f64(arguments.seconds),
        outcomes: RefCell::default(),
        idle: RefCell::default(),
        open: Cell::new(0),
    });
    let mut tasks = Vec::new();
    match arguments.rate {
        None => {
            for _ in 0..arguments.clients {
                let run = Rc::clone(&run);
                tasks.push(tokio::task::spawn_local(async move { run.client().await }));
            }
        }
        Some(rate) => {
            for at in 0..(rate * arguments.seconds) as usize {
                let due = run.begun + Duration::from_secs_f64(at as f64 / rate);
                time::sleep_until(due.into()).await;
                let run = Rc::clone(&run);
                tasks.push(tokio::task::spawn_local(async move { run.request_of_the_clock(due, at).await }));
            }
        }
    }
    for task in tasks {
        task.await.expect("a client ends");
    }
    run.outcomes.take().into_json(run.lasting)
}

fn bytes_of(arguments: &Arguments, path: &str, number: usize) -> Vec<u8> {
    let mut head = format!("{} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", arguments.method);
    for header in &arguments.header {
        head.push_str(&format!("{header}\r\n"));
    }
    let body = arguments.body.as_deref().unwrap_or_default().replace("{n}", &number.to_string());
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    format!("{head}\r\n{body}").into_bytes()
}

/// Raises the limit of open files as far as the system allows.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
