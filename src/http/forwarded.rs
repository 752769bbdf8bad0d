//! Finds the client of a request that came through proxies, which name it in `X-Forwarded-For` or
//! `Forwarded` (RFC 7239).
//!
//! Only the part that trusted proxies added is read. The search goes from the end of the list to
//! the first address that is not a trusted proxy. The client may have invented everything before
//! it.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, header},
};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that are trusted to name the client. Without any, the client is the peer of the
/// connection.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// Whether the proxies name the client in `Forwarded` rather than in `X-Forwarded-For`. Only
    /// one is read, because a proxy forwards the other header as the client sent it.
    standard: bool,
}

impl TrustedProxies {
    /// Trusts the proxies in these networks. `standard` means that they use `Forwarded`.
    pub fn new(networks: Vec<IpNet>, standard: bool) -> Self {
        Self { networks, standard }
    }

    /// Returns the address of the client whose request came from `peer`.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let hops = if self.standard {
            hops(headers, &header::FORWARDED, forwarded_for)
        } else {
            hops(headers, &X_FORWARDED_FOR, address)
        };
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            // A hop with a hidden address ends the search.
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// Notes the client of a request that came from `peer`, for handlers that verify callers.
    pub fn with_client(&self, peer: IpAddr, mut request: Request) -> Request {
        let client = Client(self.client(peer, request.headers()));
        request.extensions_mut().insert(client);
        request
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// The address of the client that sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub IpAddr);

/// The members of a list header in their order. `parse` reads each of them.
fn hops(headers: &HeaderMap, name: &HeaderName, parse: fn(&str) -> Option<IpAddr>) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
    lines.flat_map(|line| line.split(',')).map(|member| parse(member.trim())).collect()
}

/// The address in the `for` parameter of a member of `Forwarded`.
fn forwarded_for(member: &str) -> Option<IpAddr> {
    let pairs = member.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(node.trim().trim_matches('"'))
}

/// Parses an address, optionally with a port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let plain = || text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    plain().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(standard: bool, peer: &str, lines: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
        let name = if standard { header::FORWARDED } else { X_FORWARDED_FOR };
        let headers = lines.iter().map(|line| (name.clone(), line.parse().unwrap())).collect();
        TrustedProxies::new(networks.to_vec(), standard).client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_is_the_client() {
        for (peer, lines, expected) in [
            ("192.0.2.9", &["203.0.113.7"][..], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["[2001:db9::1]:443"], "2001:db9::1"),
            ("2001:db8::5", &["203.0.113.7:1234"], "203.0.113.7"),
        ] {
            assert_eq!(client(false, peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_chosen() {
        for (line, expected) in [
            ("for=203.0.113.7", "203.0.113.7"),
            ("For=\"[2001:db9::1]:4711\";proto=https;by=10.0.0.1", "2001:db9::1"),
            ("for=198.51.100.1, for=203.0.113.7;proto=http", "203.0.113.7"),
            ("for=203.0.113.7, for=unknown", "10.0.0.1"),
            ("for=203.0.113.7, for=_hidden", "10.0.0.1"),
            ("proto=http", "10.0.0.1"),
        ] {
            assert_eq!(client(true, "10.0.0.1", &[line]), expected, "{line}");
        }
        assert_eq!(client(true, "192.0.2.9", &["for=203.0.113.7"]), "192.0.2.9");
    }
}
