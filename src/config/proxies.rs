//! The settings of the proxies between the clients and the service.

use ipnet::IpNet;

use super::parsed::{ConfigErrors, Parsed, Parser, rule};

/// The proxies that are trusted to name the client of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The networks of the proxies. If empty, the client is the peer of the connection.
    pub networks: Vec<IpNet>,
    pub header: ForwardedHeader,
}

/// The header in which proxies name the client. Only one is read, because a proxy forwards the
/// other header as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
    /// No header of requests, but the PROXY protocol at the start of each connection.
    ProxyProtocol,
}

/// The definitions of the settings before validation.
#[derive(clap::Args)]
pub struct ProxySettings {
    /// Addresses or networks of the proxies in front of the service, separated by commas. Their
    /// FORWARDED_HEADER names the client of a request, for the limit of requests without a valid
    /// token. If not set, no proxy is trusted, and all clients behind a proxy share its limit.
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        value_name = "10.0.0.0/8,127.0.0.1",
        value_parser = networks(),
        help_heading = "HTTP",
    )]
    trusted_proxies: Option<Parsed<Vec<IpNet>>>,

    /// How the trusted proxies name their client: by the header x-forwarded-for or forwarded (RFC
    /// 7239), or by proxy-protocol (version 1 or 2, at the start of each connection).
    #[arg(
        long,
        env = "FORWARDED_HEADER",
        value_name = "x-forwarded-for|forwarded|proxy-protocol",
        default_value = "x-forwarded-for",
        value_parser = header(),
        help_heading = "HTTP",
    )]
    forwarded_header: Parsed<ForwardedHeader>,
}

impl ProxySettings {
    /// Checks the settings.
    pub(super) fn check(self, wrong: &mut ConfigErrors) -> Option<ProxyConfig> {
        let networks = wrong.take_optional("TRUSTED_PROXIES", self.trusted_proxies);
        let header = wrong.take("FORWARDED_HEADER", self.forwarded_header);
        Some(ProxyConfig { networks: networks?.unwrap_or_default(), header: header? })
    }
}

fn networks() -> impl Parser<Vec<IpNet>> {
    rule("must be IP addresses or networks such as 10.0.0.0/8, separated by commas", |text| {
        let network =
            |text: &str| text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)));
        text.split(',').map(|text| network(text.trim())).collect()
    })
}

fn header() -> impl Parser<ForwardedHeader> {
    rule("must be x-forwarded-for, forwarded or proxy-protocol", |text| match text {
        "x-forwarded-for" => Some(ForwardedHeader::XForwardedFor),
        "forwarded" => Some(ForwardedHeader::Forwarded),
        "proxy-protocol" => Some(ForwardedHeader::ProxyProtocol),
        _ => None,
    })
}
