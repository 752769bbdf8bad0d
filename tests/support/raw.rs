//! Requests as raw bytes, for behaviour that no correct client shows: malformed heads, and a
//! disconnect in the middle of a request.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Reply;

/// A connection on which a test writes any bytes. Dropping it closes it.
pub struct RawConnection {
    stream: TcpStream,
}

impl RawConnection {
    pub async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a connection to the service") }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the service reads the request");
    }

    /// Reads the response to a request with `Connection: close`.
    pub async fn reply(mut self) -> Reply {
        let mut bytes = Vec::new();
        // A service that refuses a request may reset the connection after its response. The bytes
        // before the reset count.
        let _ = self.stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let name: reqwest::header::HeaderName = name.parse().expect("a field name");
            headers.append(name, value.trim().parse().expect("a field value"));
        }
        Reply {
            request: "a request in bytes".into(),
            status: status.expect("a status line"),
            headers,
            text: body.into(),
        }
    }
}

/// Returns the bytes of a JSON request that asks the service to close the connection afterwards.
pub fn json_request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
