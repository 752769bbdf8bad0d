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
    /// Opens the record of an access by `caller`.
    pub async fn begin<S>(self, state: &WebState, caller: &Caller<S>, operation: &'static str) -> Access {
        if state.audit.is_some() {
            state.services.cache.meet(&caller.tenant).await;
        }
        let access = state.audit.clone().map(|audit| {
            let Reference { request_id, trace_id } = self.0.unwrap_or_default();
            let record = Record {
                time: Utc::now(),
                tenant: caller.tenant.to_string(),
                subject: caller.subject.clone(),
                operation,
                key: String::new(),
                outcome: "failed",
                request_id,
                trace_id,
            };
            (audit, Box::new(record))
        });
        Access { access, cache: state.services.cache.clone(), key: None }
    }
}

type HashedName = Box<dyn FnOnce(&Cache) -> Option<String> + Send>;

/// A record that is written when it is dropped: as `failed`, unless it is said how the work ended.
pub struct Access {
    access: Option<(Audit, Box<Record>)>,
    cache: Cache,
    /// What is accessed.
    key: Option<HashedName>,
}

impl Access {
    /// Says what is accessed.
    pub fn of<T: Cacheable>(mut self, key: impl FnOnce() -> Key<T>) -> Self {
        self.is_of(key);
        self
    }

    /// Says what was accessed, where that is known later.
    pub fn is_of<T: Cacheable>(&mut self, key: impl FnOnce() -> Key<T>) {
        if self.access.is_some() {
            let key = key();
            self.key = Some(Box::new(move |cache| cache.hashed_name(&key)));
        }
    }

    /// The work brought an answer, from there; `None`: from no tier.
    pub fn ended(&mut self, outcome: Option<Outcome>) {
        if let Some((_, record)) = &mut self.access {
            record.outcome = outcome.map_or("done", Outcome::as_str);
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Some((audit, mut record)) = self.access.take() {
            record.key = self.key.take().and_then(|key| key(&self.cache)).unwrap_or_default();
            audit.record(*record);
        }
    }
}
