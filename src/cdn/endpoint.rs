//! The endpoint of purges. One `PURGE` request carries several tags, as `ops/varnish/default.vcl`
//! expects. Purges are soft: the shared cache may still serve a purged answer while it revalidates,
//! for as long as the answer's headers allow.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Uri, header},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use crate::config::PurgeConfig;

/// The time limit of one request.
const DEADLINE: Duration = Duration::from_secs(2);
/// The maximum bytes of tags in one request. Varnish accepts lines of 8 KiB.
const ROOM: usize = 6 * 1024;
const SOFT_PURGE: &str = "xkey-softpurge";

/// The shared cache as the target of purges.
#[derive(Clone, Debug)]
pub struct Endpoint {
    http: Client<HttpConnector, Body>,
    url: Uri,
    token: Option<HeaderValue>,
}

/// The reason why no purges can be sent.
#[derive(Debug, thiserror::Error)]
#[error("no client for purges can be made")]
pub struct EndpointError;

/// The reason why a purge is not confirmed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PurgeError {
    #[error("the shared cache can't be reached or doesn't answer in time")]
    Unreachable,
    #[error("the shared cache answers {0}")]
    Refused(u16),
}

impl Endpoint {
    /// Creates the endpoint without connecting.
    ///
    /// # Errors
    /// When the configured values can't be sent in a request.
    pub fn new(config: &PurgeConfig) -> Result<Self, EndpointError> {
        let bearer = |token: &String| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| EndpointError)?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http(),
            url: config.url.parse().map_err(|_| EndpointError)?,
            token: config.token.as_ref().map(bearer).transpose()?,
        })
    }

    /// Purges all answers with one of these tags. The tags must fit into one request.
    pub(super) async fn purge(&self, tags: &str) -> Result<(), PurgeError> {
        let mut request = Request::builder().method("PURGE").uri(&self.url).header(SOFT_PURGE, tags);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Body::empty()).map_err(|_| PurgeError::Unreachable)?;
        let sent = tokio::time::timeout(DEADLINE, self.http.request(request)).await;
        let status = sent.map_err(|_| PurgeError::Unreachable)?.map_err(|_| PurgeError::Unreachable)?.status();
        if status.is_success() { Ok(()) } else { Err(PurgeError::Refused(status.as_u16())) }
    }
}

/// Splits tags into requests. Each result has a count of its tags.
pub(super) fn requests(tags: &BTreeSet<String>) -> Vec<(String, u64)> {
    let mut requests: Vec<(String, u64)> = Vec::new();
    for tag in tags {
        match requests.last_mut() {
            Some((line, count)) if line.len() + 1 + tag.len() <= ROOM => {
                line.push(' ');
                line.push_str(tag);
                *count += 1;
            }
            _ => requests.push((tag.clone(), 1)),
        }
    }
    // A tag that fits into no request fits into no answer either.
    requests.retain(|(line, _)| line.len() <= ROOM);
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tags_are_several_requests_and_none_is_lost() {
        let tags: BTreeSet<String> = (0..2_000).map(|id| format!("product:{id}")).collect();
        let sent = requests(&tags);
        assert!(sent.len() > 3 && sent.iter().all(|(line, _)| line.len() <= ROOM));
        let all: BTreeSet<String> = sent.iter().flat_map(|(line, _)| line.split(' ').map(str::to_owned)).collect();
        assert_eq!((all, sent.iter().map(|(_, count)| count).sum()), (tags, 2_000));
        assert_eq!(requests(&BTreeSet::from(["x".repeat(ROOM + 1)])), []);
    }
}
