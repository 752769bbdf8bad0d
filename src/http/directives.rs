//! The directives in `Cache-Control` of a request that this service follows (RFC 9111, section
//! 5.2.1): `no-cache`, `no-store` and `only-if-cached`. The RFC does not require a cache to follow
//! them. All other directives are ignored.
//!
//! `no-cache` and `no-store` cost one database query each, so only a limited number of them is
//! granted per second. Above the limit, such a request is an ordinary read. Loads for a
//! `Consistency-Token` use the same budget, so no header that a client makes up costs more.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{
    WebState, consistency,
    problem::{Kind, Problem},
};
use aside_cache::{CacheMode, CatchUp, ConsistencyToken};

/// How a read may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// From the tiers or by a load, as `CacheMode` allows.
    Load(CacheMode),
    /// From the tiers only. The answer is 504 if they have none.
    OnlyIfCached,
}

impl ReadMode {
    /// Returns the answer of a lookup in the tiers, or a problem if there is none.
    pub fn cached<T>(read: Option<T>) -> Result<T, Problem> {
        read.ok_or_else(|| Problem::new(&Kind::NOT_CACHED, "No tier holds an answer that may be served."))
    }
}

impl FromRequestParts<WebState> for ReadMode {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let mode = match wish(&parts.headers) {
            Self::Load(CacheMode::Reload | CacheMode::NoStore) if !state.reloads.grant(Instant::now()) => {
                Self::Load(CacheMode::Default)
            }
            mode => mode,
        };
        match consistency::token(&parts.headers)? {
            Some(token) => mode.honouring(&token, state).await,
            None => Ok(mode),
        }
    }
}

impl ReadMode {
    /// Returns the mode in which no answer is older than the token.
    async fn honouring(self, token: &ConsistencyToken, state: &WebState) -> Result<Self, Problem> {
        let cache = &state.services.cache;
        match (cache.catch_up(token).await, self) {
            (CatchUp::Impossible, _) => Err(consistency::malformed_token()),
            (CatchUp::Covered, mode) => Ok(mode),
            (CatchUp::Late | CatchUp::OtherEpoch, Self::OnlyIfCached) => Self::cached(None),
            (CatchUp::Late | CatchUp::OtherEpoch, Self::Load(CacheMode::Default))
                if state.reloads.grant(Instant::now()) =>
            {
                Ok(Self::Load(CacheMode::Reload))
            }
            // The commit behind the token either survived into this epoch, where every answer shows
            // it, or it is lost.
            (CatchUp::OtherEpoch, mode) => Ok(mode),
            (CatchUp::Late, Self::Load(CacheMode::Default)) if !cache.catch_up_later(token).await => Err(Problem::new(
                &Kind::OVERLOADED,
                "Nothing proves at the moment that an answer would not be older than the token.",
            )
            .with_cause("tokens wait for a late poll of the ledger")),
            (CatchUp::Late, mode) => Ok(mode),
        }
    }
}

/// Parses the header tolerantly: unknown and malformed directives are skipped. `only-if-cached`
/// takes precedence, because a client that sends it wants no load at all. `no-store` comes second,
/// because it stores nothing.
fn wish(headers: &HeaderMap) -> ReadMode {
    let mut mode = CacheMode::Default;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.as_bytes().split(|byte| *byte == b',') {
            let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"only-if-cached") {
                return ReadMode::OnlyIfCached;
            } else if name.eq_ignore_ascii_case(b"no-store") {
                mode = CacheMode::NoStore;
            } else if name.eq_ignore_ascii_case(b"no-cache") && mode == CacheMode::Default {
                mode = CacheMode::Reload;
            }
        }
    }
    ReadMode::Load(mode)
}

/// The budget of reads per second that may bypass the tiers at the client's request.
#[derive(Debug)]
pub struct ReloadBudget {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    used: u32,
}

impl ReloadBudget {
    /// Creates a budget of `per_second` reads for this instance.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, window: Mutex::new(Window { began: Instant::now(), used: 0 }) }
    }

    fn grant(&self, now: Instant) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.began) >= Duration::from_secs(1) {
            *window = Window { began: now, used: 0 };
        }
        window.used = window.used.saturating_add(1);
        window.used <= self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_directives_are_read_tolerantly() {
        use ReadMode::{Load, OnlyIfCached};
        let cases: &[(&[&str], ReadMode)] = &[
            (&[], Load(CacheMode::Default)),
            (&["no-cache"], Load(CacheMode::Reload)),
            (&["No-Cache"], Load(CacheMode::Reload)),
            (&["max-age=0, no-cache"], Load(CacheMode::Reload)),
            (&["no-cache=\"x\""], Load(CacheMode::Reload)),
            (&["no-cache, no-store"], Load(CacheMode::NoStore)),
            (&["no-store", "no-cache"], Load(CacheMode::NoStore)),
            (&["no-cache", "only-if-cached"], OnlyIfCached),
            (&["max-age=60"], Load(CacheMode::Default)),
            (&["nocache"], Load(CacheMode::Default)),
            (&[",,=,;"], Load(CacheMode::Default)),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(header::CACHE_CONTROL, value.parse().unwrap());
            }
            assert_eq!(wish(&headers), *expected, "{values:?}");
        }
    }

    #[test]
    fn reloads_are_granted_up_to_the_limit_in_each_second() {
        let budget = ReloadBudget::new(2);
        let start = Instant::now() + Duration::from_secs(5);
        assert_eq!([0, 1, 2].map(|_| budget.grant(start)), [true, true, false]);
        assert!(!budget.grant(start + Duration::from_millis(999)));
        assert!(budget.grant(start + Duration::from_secs(1)));
    }
}
