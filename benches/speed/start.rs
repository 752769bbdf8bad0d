//! The time of an instance from its start until it is ready, without warming.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{numbers::Spread, servers::Server};

/// Milliseconds of this number of starts.
pub fn measure(database_url: &str, redis_url: &str, starts: usize) -> Spread {
    let one = |_| {
        let begun = Instant::now();
        let server = Server::service("start", database_url, redis_url, &[("CACHE_WARM_TOP", "0")]);
        while !is_ready(&server) {
            std::thread::sleep(Duration::from_millis(1));
        }
        begun.elapsed().as_secs_f64() * 1e3
    };
    Spread::of(&(0..starts).map(one).collect::<Vec<_>>())
}

fn is_ready(server: &Server) -> bool {
    let ask = || {
        let mut line = TcpStream::connect(server.address())?;
        line.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        line.read_to_end(&mut answer)?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
