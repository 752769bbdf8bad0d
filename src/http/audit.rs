//! Audit records of requests. A record is opened before the work and written when the request ends,
//! also when it fails.

use aside_cache::{Cache, Cacheable, Key, Outcome, Tenant, on_behalf_of};
use axum::{
    extract::{FromRequestParts, Request},
    http::{Method, request::Parts},
    middleware::Next,
    response::Response,
};
use chrono::Utc;
use tracing::Span;

use super::{WebState, identity::Caller, request_id::REQUEST_ID};
use crate::{
    audit::{Audit, Record},
    domain::DomainError,
    telemetry,
};

/// The first fields of a request's audit record. Handlers whose work is recorded take it as an
/// argument.
pub struct AuditContext {
    request_id: String,
    operation: &'static str,
}

impl FromRequestParts<WebState> for AuditContext {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &WebState) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts))
    }
}

impl AuditContext {
    fn of(parts: &Parts) -> Self {
        let id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        Self { request_id: id.unwrap_or_default().to_owned(), operation: operation(parts) }
    }

    /// Builds a record with the values that apply if no more becomes known.
    fn record(self, tenant: String, subject: String) -> Record {
        let Self { request_id, operation } = self;
        let (time, key, trace_id) = (Utc::now(), String::new(), telemetry::trace_id(&Span::current()));
        Record { time, tenant, subject, operation, key, outcome: "failed", request_id, trace_id }
    }

    /// Opens the record of an access by `caller`. Without an audit it returns an empty guard.
    pub async fn begin<S>(self, state: &WebState, caller: &Caller<S>) -> AuditGuard {
        let Some(audit) = &state.audit else { return AuditGuard(None) };
        let cache = &state.services.cache;
        cache.ensure_tenant_loaded(&caller.tenant).await;
        let record = self.record(caller.tenant.to_string(), caller.subject.to_string());
        AuditGuard(Some((audit.clone(), cache.clone(), Box::new(record))))
    }
}

/// The operation on orders that a request performs.
fn operation(parts: &Parts) -> &'static str {
    match (&parts.method, parts.uri.path()) {
        (&Method::POST, _) => "place",
        (&Method::PATCH, _) => "change",
        (_, "/orders") => "list",
        _ => "read",
    }
}

/// Runs a request whose handler writes the record. The cache's recorder then writes no other one.
pub async fn with_record(request: Request, next: Next) -> Response {
    on_behalf_of("request", next.run(request)).await
}

/// Records a caller of a regulated route whose request was refused. The record contains the
/// caller's name only if it was verified.
pub fn refused(parts: &Parts, state: &WebState, who: Option<(&Tenant, &str)>) {
    let Some(audit) = &state.audit else { return };
    let (tenant, subject) = who.map(|(tenant, subject)| (tenant.to_string(), subject.to_owned())).unwrap_or_default();
    audit.refused(AuditContext::of(parts).record(tenant, subject));
}

/// A guard that writes its record when it is dropped. The result is `failed` unless it was set
/// before.
pub struct AuditGuard(Option<(Audit, Cache, Box<Record>)>);

impl AuditGuard {
    /// Sets the accessed key.
    pub fn with_key<T: Cacheable>(mut self, key: impl FnOnce() -> Key<T>) -> Self {
        self.set_key(key);
        self
    }

    /// Sets the accessed key when it becomes known only later.
    pub fn set_key<T: Cacheable>(&mut self, key: impl FnOnce() -> Key<T>) {
        if let Some((_, cache, record)) = &mut self.0 {
            record.key = cache.hashed_name(&key()).unwrap_or_default();
        }
    }

    /// Notes that the resource does not exist, if the work ended with that error.
    pub fn note_absent<T>(&mut self, ended: Result<T, DomainError>) -> Result<T, DomainError> {
        if let (Some((.., record)), Err(DomainError::NotFound { .. })) = (&mut self.0, &ended) {
            record.outcome = "absent";
        }
        ended
    }

    /// Sets the outcome of the work. `None` means that the answer came from no tier.
    pub fn set_outcome(&mut self, outcome: Option<Outcome>) {
        if let Some((.., record)) = &mut self.0 {
            record.outcome = outcome.map_or("done", Outcome::as_str);
        }
    }
}

impl Drop for AuditGuard {
    fn drop(&mut self) {
        if let Some((audit, _, record)) = self.0.take() {
            audit.record(*record);
        }
    }
}
