//! What the `Cache-Control` of a request asks of this service's tiers (RFC 9111, section 5.2.1): `no-cache`, `no-store` and
//! `only-if-cached`. The RFC leaves it to a cache whether it follows them; other directives are not looked at.
//!
//! `no-cache` and `no-store` cost a query of the database each, so they are granted a limited number of times a second; beyond
//! it they are treated as ordinary reads. What a `Consistency-Token` costs is taken from the same budget: no header that a client
//! makes up costs more.

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
use crate::cache::{CatchUp, ConsistencyToken, Reuse};

/// How a read may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// From the tiers or by a load, within the limits of `Reuse`.
    Load(Reuse),
    /// From the tiers only: 504 otherwise.
    OnlyIfCached,
}

impl ReadMode {
    /// The answer of a look into the tiers, or the problem that there is none.
    pub fn cached<T>(read: Option<T>) -> Result<T, Problem> {
        read.ok_or_else(|| Problem::new(&Kind::NOT_CACHED, "No tier holds an answer that may be served."))
    }
}

impl FromRequestParts<WebState> for ReadMode {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let mode = match wish(&parts.headers) {
            Self::Load(Reuse::Refresh | Reuse::NoStore) if !state.reloads.grant(Instant::now()) => {
                Self::Load(Reuse::Allowed)
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
    /// The mode in which nothing older than the token is answered.
    async fn honouring(self, token: &ConsistencyToken, state: &WebState) -> Result<Self, Problem> {
        let cache = &state.services.cache;
        match (cache.catch_up(token).await, self) {
            (CatchUp::Impossible, _) => Err(consistency::not_ours()),
            (CatchUp::Covered, mode) => Ok(mode),
            (CatchUp::Late | CatchUp::OtherEra, Self::OnlyIfCached) => Self::cached(None),
            (CatchUp::Late | CatchUp::OtherEra, Self::Load(Reuse::Allowed)) if state.reloads.grant(Instant::now()) => {
                Ok(Self::Load(Reuse::Refresh))
            }
            // What it stands for either outlived the other era, so that every answer of this one shows it, or is lost.
            (CatchUp::OtherEra, mode) => Ok(mode),
            (CatchUp::Late, Self::Load(Reuse::Allowed)) if !cache.catch_up_later(token).await => Err(Problem::new(
                &Kind::OVERLOADED,
                "Nothing proves at the moment that an answer would not be older than the token.",
            )
            .with_cause("tokens wait for a late look at the ledger")),
            (CatchUp::Late, mode) => Ok(mode),
        }
    }
}

/// Reads the header tolerantly: unknown and malformed directives are skipped. `only-if-cached` wins, because a client that
/// names it wants no load under any circumstances; then `no-store`, which leaves no trace.
fn wish(headers: &HeaderMap) -> ReadMode {
    let mut reuse = Reuse::Allowed;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.as_bytes().split(|byte| *byte == b',') {
            let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"only-if-cached") {
                return ReadMode::OnlyIfCached;
            } else if name.eq_ignore_ascii_case(b"no-store") {
                reuse = Reuse::NoStore;
            } else if name.eq_ignore_ascii_case(b"no-cache") && reuse == Reuse::Allowed {
                reuse = Reuse::Refresh;
            }
        }
    }
    ReadMode::Load(reuse)
}

/// How many reads a second may go past the tiers because the client wishes so.
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
    /// A budget of `per_second` for this instance.
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
            (&[], Load(Reuse::Allowed)),
            (&["no-cache"], Load(Reuse::Refresh)),
            (&["No-Cache"], Load(Reuse::Refresh)),
            (&["max-age=0, no-cache"], Load(Reuse::Refresh)),
            (&["no-cache=\"x\""], Load(Reuse::Refresh)),
            (&["no-cache, no-store"], Load(Reuse::NoStore)),
            (&["no-store", "no-cache"], Load(Reuse::NoStore)),
            (&["no-cache", "only-if-cached"], OnlyIfCached),
            (&["max-age=60"], Load(Reuse::Allowed)),
            (&["nocache"], Load(Reuse::Allowed)),
            (&[",,=,;"], Load(Reuse::Allowed)),
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
