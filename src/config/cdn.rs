//! The settings of a shared HTTP cache (a Varnish or a CDN) in front of the service.

use std::{fmt, time::Duration};

use super::{
    check::{is_plain_http, token},
    parsed::{ConfigErrors, Parsed, Parser, number, rule},
};

/// The shared cache in front of the service.
#[derive(Clone, Debug)]
pub struct CdnConfig {
    pub tags: CdnTags,
    /// The additional lifetime of an answer in a shared cache that is purged.
    pub max_age: Duration,
    /// `None` if it is not purged. It then stores answers as briefly as any other cache.
    pub purge: Option<PurgeConfig>,
}

/// The header with the tags of an answer, which also determines their format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdnTags {
    /// Varnish.
    Xkey,
    /// Fastly.
    SurrogateKey,
    /// Cloudflare.
    CacheTag,
    /// RFC 9875.
    CacheGroups,
}

/// The endpoint of purges.
#[derive(Clone)]
pub struct PurgeConfig {
    pub url: String,
    pub token: Option<String>,
}

impl fmt::Debug for PurgeConfig {
    /// The output shows of the token only whether it is set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() { "(set)" } else { "(not set)" };
        f.debug_struct("PurgeConfig").field("url", &self.url).field("token", &token).finish()
    }
}

/// The definitions of the settings before validation.
#[derive(clap::Args)]
pub struct CdnSettings {
    /// Header with the tags of catalogue answers, for a shared cache that purges by tag: xkey
    /// (Varnish), surrogate-key (Fastly), cache-tag (Cloudflare), cache-groups (RFC 9875), or none.
    #[arg(
        long,
        env = "CDN_TAGS",
        value_name = "none|xkey|surrogate-key|cache-tag|cache-groups",
        default_value = "none",
        value_parser = tags(),
        help_heading = "Shared cache",
    )]
    cdn_tags: Parsed<Option<CdnTags>>,

    /// How many seconds a purged shared cache may store a catalogue answer. This is the maximum age
    /// of an answer if purges fail.
    #[arg(
        long,
        env = "CDN_MAX_AGE_SECONDS",
        value_name = "SECONDS",
        default_value = "300",
        value_parser = number::<u64>(1..=3600),
        help_heading = "Shared cache",
    )]
    cdn_max_age_seconds: Parsed<u64>,

    /// URL to which purges are sent: `PURGE` with the header xkey-softpurge, as
    /// ops/varnish/default.vcl expects. If not set, nothing is purged, and a shared cache stores
    /// answers as briefly as any other cache.
    #[arg(
        long,
        env = "CDN_PURGE_URL",
        value_name = "http://127.0.0.1:6081/",
        value_parser = purge_url(),
        help_heading = "Shared cache",
    )]
    cdn_purge_url: Option<Parsed<String>>,

    /// Bearer token of purges, for a proxy in front of the shared cache that requires one. Secret.
    #[arg(
        long,
        env = "CDN_PURGE_TOKEN",
        value_name = "TOKEN",
        value_parser = token(),
        help_heading = "Shared cache",
    )]
    cdn_purge_token: Option<Parsed<String>>,
}

impl CdnSettings {
    /// Checks the settings. The outer `None` means that a setting is wrong, the inner `None` that
    /// there is no shared cache.
    pub(super) fn check(self, wrong: &mut ConfigErrors) -> Option<Option<CdnConfig>> {
        let tags = wrong.take("CDN_TAGS", self.cdn_tags);
        let max_age = wrong.take("CDN_MAX_AGE_SECONDS", self.cdn_max_age_seconds);
        let url = wrong.take_secret("CDN_PURGE_URL", self.cdn_purge_url);
        let token = wrong.take_secret("CDN_PURGE_TOKEN", self.cdn_purge_token);
        if let (Some(None), Some(Some(_))) = (tags, &url) {
            wrong.add("CDN_TAGS", "must not be none when CDN_PURGE_URL is set: what has no tags can't be purged", None);
        }
        if let (Some(None), Some(Some(_))) = (&url, &token) {
            wrong.add("CDN_PURGE_TOKEN", "must not be set without CDN_PURGE_URL", None);
        }
        let (tags, max_age, url, token) = (tags?, Duration::from_secs(max_age?), url?, token?);
        Some(tags.map(|tags| CdnConfig { tags, max_age, purge: url.map(|url| PurgeConfig { url, token }) }))
    }
}

fn tags() -> impl Parser<Option<CdnTags>> {
    rule("must be none, xkey, surrogate-key, cache-tag or cache-groups", |text| match text {
        "none" => Some(None),
        "xkey" => Some(Some(CdnTags::Xkey)),
        "surrogate-key" => Some(Some(CdnTags::SurrogateKey)),
        "cache-tag" => Some(Some(CdnTags::CacheTag)),
        "cache-groups" => Some(Some(CdnTags::CacheGroups)),
        _ => None,
    })
}

fn purge_url() -> impl Parser<String> {
    rule(
        "must be a URL such as http://127.0.0.1:6081/, without user and query; a cache beyond TLS is reached through something nearby",
        |text| is_plain_http(text).then(|| text.to_owned()),
    )
}
