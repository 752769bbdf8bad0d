//! The few commands of Redis that a run needs, over their own connection.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

/// A connection to the Redis of `redis://[:password@]host:port[/database]`.
pub struct RedisServer {
    stream: BufReader<TcpStream>,
}

impl RedisServer {
    pub fn connect(url: &str) -> Self {
        let rest = url.strip_prefix("redis://").expect("a URL of Redis");
        let (credentials, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (address, database) = place.split_once('/').unwrap_or((place, ""));
        let stream = BufReader::new(TcpStream::connect(address).expect("Redis answers"));
        let mut server = Self { stream };
        if let Some((_, password)) = credentials.split_once(':') {
            server.call(&["AUTH", password]);
        }
        if !database.is_empty() {
            server.call(&["SELECT", database]);
        }
        server
    }

    /// Removes all keys of its database.
    pub fn flush(&mut self) {
        self.call(&["FLUSHDB"]);
    }

    /// Stores a value under a key.
    pub fn set(&mut self, key: &str, value: &str) {
        self.call(&["SET", key, value]);
    }

    fn call(&mut self, words: &[&str]) {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes()).expect("a command is sent");
        let mut answer = String::new();
        self.stream.read_line(&mut answer).expect("an answer");
        assert!(answer.starts_with('+'), "{}: {answer}", words[0]);
    }
}
