//! Accesses to regulated data that no request makes: background work of the service, or code that
//! forgot the record of its request. The listeners record the accesses of requests, with the caller
//! and the id of the request.

use aside_cache::{Access, AccessKind, Outcome, Recorder};
use chrono::Utc;

use super::{Audit, Record};

/// The recorder of the service's cache. Without an audit log, it records nothing.
pub struct AccessRecorder(Option<Audit>);

impl AccessRecorder {
    /// Records in this audit log.
    pub fn new(audit: Option<Audit>) -> Self {
        Self(audit)
    }
}

impl Recorder for AccessRecorder {
    fn record(&self, access: &Access<'_>) {
        // The record of a request contains more.
        let Some(audit) = self.0.as_ref().filter(|_| access.subject.is_none()) else { return };
        let (operation, outcome) = match access.kind {
            AccessKind::Read { outcome, found: false } if outcome != Outcome::Failed => ("read", "absent"),
            AccessKind::Read { outcome, .. } => ("read", outcome.as_str()),
            AccessKind::Invalidation => ("invalidate", "done"),
        };
        audit.record(Record {
            time: Utc::now(),
            tenant: access.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
            subject: "service".to_owned(),
            operation,
            key: access.hashed_name().unwrap_or_default(),
            outcome,
            request_id: String::new(),
            trace_id: None,
        });
    }
}
