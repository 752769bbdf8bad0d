//! What the audit learns of a request: a record is opened before the work and written when it ends, however it ends.

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::Utc;

use super::{WebState, identity::Caller, observe::Reference};
use crate::{
    audit::{Audit, Record},
    cache::{Cache, Cacheable, Key, Outcome},
};

/// Leads to the request in logs and traces; taken out of it by the handlers whose work is recorded.
pub struct Trail(Option<Reference>);

impl FromRequestParts<WebState> for Trail {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &WebState) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.remove()))
    }
}

impl Trail {
    /// Opens the record of an access by `caller`; where nobody records, an empty one.
    pub async fn begin<S>(self, state: &WebState, caller: &Caller<S>, operation: &'static str) -> Access {
        let Some(audit) = &state.audit else { return Access(None) };
        let cache = &state.services.cache;
        cache.meet(&caller.tenant).await;
        let Reference { request_id, trace_id } = self.0.unwrap_or_default();
        let record = Record {
            time: Utc::now(),
            tenant: caller.tenant.to_string(),
            subject: caller.subject.to_string(),
            operation,
            key: String::new(),
            outcome: "failed",
            request_id,
            trace_id,
        };
        Access(Some((audit.clone(), cache.clone(), Box::new(record))))
    }
}

/// A record that is written when it is dropped: as `failed`, unless it is said how the work ended.
pub struct Access(Option<(Audit, Cache, Box<Record>)>);

impl Access {
    /// Says what is accessed.
    pub fn of<T: Cacheable>(mut self, key: impl FnOnce() -> Key<T>) -> Self {
        self.is_of(key);
        self
    }

    /// Says what was accessed, where that is known later.
    pub fn is_of<T: Cacheable>(&mut self, key: impl FnOnce() -> Key<T>) {
        if let Some((_, cache, record)) = &mut self.0 {
            record.key = cache.hashed_name(&key()).unwrap_or_default();
        }
    }

    /// The work brought an answer, from there; `None`: from no tier.
    pub fn ended(&mut self, outcome: Option<Outcome>) {
        if let Some((.., record)) = &mut self.0 {
            record.outcome = outcome.map_or("done", Outcome::as_str);
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Some((audit, _, record)) = self.0.take() {
            audit.record(*record);
        }
    }
}
