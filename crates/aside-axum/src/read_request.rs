//! What a request says about how it may be answered: directives, consistency token and
//! preconditions. All reads of a service take the same extractor, so each is decided once.
//!
//! `no-cache` and `no-store` cost one database query each, so only a limited number of them is
//! granted per second. Above the limit, such a request is an ordinary read. Loads for a
//! `Consistency-Token` use the same budget, so no header that a client makes up costs more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aside_cache::{Cache, CacheMode, CatchUp, ConsistencyToken};
use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
    response::Response,
};

use super::{
    budget::LoadBudget, conditions::Conditions, consistency::ClientToken, directives::Directives, refusal::Refusal,
    representation::Representation, template::HeaderTemplate,
};

/// The cache as clients may use it. It is part of the state of the service's router, and cheap to
/// clone.
#[derive(Clone)]
pub struct CacheAccess(Arc<Access>);

struct Access {
    cache: Cache,
    loads: LoadBudget,
    l2: bool,
}

impl CacheAccess {
    /// Lets clients force up to `forced_loads` loads per second on this instance.
    pub fn new(cache: Cache, forced_loads: u32) -> Self {
        let l2 = cache.l2_breaker().is_some();
        Self(Arc::new(Access { cache, loads: LoadBudget::new(forced_loads), l2 }))
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    fn grants_load(&self) -> bool {
        self.0.loads.take(Instant::now())
    }

    /// Returns the mode in which no answer is older than the token.
    async fn mode_for(&self, token: &ConsistencyToken, mode: CacheMode) -> Result<CacheMode, Refusal> {
        match (self.0.cache.catch_up(token).await, mode) {
            (CatchUp::Impossible, _) => Err(ClientToken::MALFORMED),
            (CatchUp::Covered, mode) => Ok(mode),
            (CatchUp::Late | CatchUp::OtherEpoch, CacheMode::OnlyIfCached) => Err(Refusal::NotCached),
            (CatchUp::Late | CatchUp::OtherEpoch, CacheMode::Default) if self.grants_load() => Ok(CacheMode::Reload),
            // The commit behind the token either survived into this epoch, where every answer shows
            // it, or it is lost.
            (CatchUp::OtherEpoch, mode) => Ok(mode),
            (CatchUp::Late, CacheMode::Default) if !self.0.cache.catch_up_later(token).await => {
                Err(Refusal::TokenNotReached)
            }
            (CatchUp::Late, mode) => Ok(mode),
        }
    }
}

/// How a GET or HEAD may be answered.
///
/// As an extractor it refuses a request whose `Consistency-Token` or `If-Match` can't be read, and
/// one whose token this instance can't prove to have reached.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    mode: CacheMode,
    max_age: Option<Duration>,
    conditions: Conditions,
    l2: bool,
}

impl ReadRequest {
    /// How the read may use the tiers.
    pub fn mode(&self) -> CacheMode {
        self.mode
    }

    /// The highest `Age` that the client wants. It is not followed; see [`Directives::max_age`].
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// The response: 200, or 304 without a body if the client has this representation. It has the
    /// headers of `template`. axum leaves the body out of the response to a HEAD.
    ///
    /// # Errors
    /// Returns [`Refusal::PreconditionFailed`] if `If-Match` names no current representation.
    pub fn respond(&self, answer: Representation, template: &HeaderTemplate) -> Result<Response, Refusal> {
        answer.respond(&self.conditions, template, self.l2)
    }
}

impl<S> FromRequestParts<S> for ReadRequest
where
    S: Send + Sync,
    CacheAccess: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let access = CacheAccess::from_ref(state);
        let Directives { mode, max_age } = Directives::parse(&parts.headers);
        let mode = match mode {
            CacheMode::Reload | CacheMode::NoStore if !access.grants_load() => CacheMode::Default,
            mode => mode,
        };
        let mode = match ClientToken::parse(&parts.headers)? {
            ClientToken(Some(token)) => access.mode_for(&token, mode).await?,
            ClientToken(None) => mode,
        };
        let conditions = Conditions::parse(&parts.method, &parts.headers)?;
        Ok(Self { mode, max_age, conditions, l2: access.0.l2 })
    }
}
