//! The PROXY protocol of HAProxy, versions 1 and 2. A proxy that passes bytes through names its
//! client in the first bytes of each connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// The proxies whose connections begin with a PROXY header. Without any, no header is read.
#[derive(Clone, Default)]
pub struct ProxyHeaders(Arc<[IpNet]>);

impl ProxyHeaders {
    /// Expects a header on connections from these networks.
    pub fn of(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Returns the client of a connection from `peer`. A trusted proxy that names none is the
    /// client itself, as for its health checks.
    ///
    /// # Errors
    /// Returns an error if a trusted proxy does not begin with a header.
    pub async fn client(&self, stream: &mut (impl AsyncRead + Unpin), peer: IpAddr) -> io::Result<IpAddr> {
        let proxy = peer.to_canonical();
        if !self.0.iter().any(|network| network.contains(&proxy)) {
            return Ok(peer);
        }
        Ok(read(stream).await?.unwrap_or(peer))
    }
}

/// Reads one header, and no byte after it.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    // The shortest header has more bytes than this.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_LINE || !line.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line).ok_or_else(malformed)
}

/// Returns the client that a line of version 1 names. The outer option is `None` if it is
/// malformed.
fn parse_line(line: &[u8]) -> Option<Option<IpAddr>> {
    let mut words = std::str::from_utf8(line).ok()?.trim_end().split(' ').skip(1);
    match words.next()? {
        "UNKNOWN" => Some(None),
        "TCP4" => Some(Some(words.next()?.parse::<Ipv4Addr>().ok()?.into())),
        "TCP6" => Some(Some(words.next()?.parse::<Ipv6Addr>().ok()?.to_canonical())),
        _ => None,
    }
}

/// Reads the rest of a header of version 2.
async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let (command, family, length) = (stream.read_u8().await?, stream.read_u8().await?, stream.read_u16().await?);
    let mut rest = vec![0; usize::from(length)];
    stream.read_exact(&mut rest).await?;
    match (command, family >> 4) {
        // LOCAL: a connection of the proxy itself.
        (0x20, _) => Ok(None),
        (0x21, 1) => Ok(Some(Ipv4Addr::from(source(&rest)?).into())),
        (0x21, 2) => Ok(Some(Ipv6Addr::from(source(&rest)?).to_canonical())),
        // Unspecified, or a socket of Unix.
        (0x21, _) => Ok(None),
        _ => Err(malformed()),
    }
}

/// The source address, which comes first.
fn source<const N: usize>(addresses: &[u8]) -> io::Result<[u8; N]> {
    addresses.first_chunk().copied().ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the trusted proxy did not begin with a PROXY header")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    /// The client that a connection from the proxy names, and the bytes that are left.
    async fn client(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
        let headers = ProxyHeaders::of(vec!["10.0.0.0/8".parse().unwrap()]);
        let mut stream = bytes;
        let client = headers.client(&mut stream, PROXY).await.ok()?;
        Some((client.to_string(), stream.to_vec()))
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, addresses, b"GET"].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_the_request() {
        let v6 = [&[0; 15][..], &[1], &[0; 20]].concat();
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0, 80, 0, 80, 0, 0, 0];
        for (bytes, expected) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 80\r\nGET".to_vec(), "203.0.113.7"),
            (b"PROXY TCP6 2001:db8::7 ::1 40000 80\r\nGET".to_vec(), "2001:db8::7"),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), "10.0.0.1"),
            (binary(0x21, 0x11, &v4), "203.0.113.7"),
            (binary(0x21, 0x21, &v6), "::1"),
            (binary(0x20, 0, &[]), "10.0.0.1"),
        ] {
            assert_eq!(client(&bytes).await, Some((expected.to_owned(), b"GET".to_vec())), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_trusted_proxy_without_a_valid_header_is_refused() {
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            b"PROXY TCP4 nonsense x 1 2\r\n",
            b"PROXY TCP5 1.1.1.1 1.1.1.1 1 2\r\n",
            &endless,
            &binary(0x31, 0x11, &[0; 12]),
            &binary(0x21, 0x11, &[0; 3]),
            b"PROXY",
        ] {
            assert_eq!(client(bytes).await, None, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn others_are_not_asked_for_a_header() {
        let headers = ProxyHeaders::of(vec!["10.0.0.0/8".parse().unwrap()]);
        let (mut stream, peer) = (&b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2\r\n"[..], IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(headers.client(&mut stream, peer).await.unwrap(), peer);
        assert!(stream.starts_with(b"PROXY"), "nothing was read");
    }
}
