//! The record of accesses to regulated data. The cache demands a recorder for them. This one hands a
//! line for each access to a channel, because a recorder must not block.

use std::sync::mpsc::Sender;

use aside_cache::{Access, Recorder};
use chrono::Utc;

/// Sends a line for each access. Its receiver stores the lines.
pub struct AccessLog(pub Sender<String>);

impl Recorder for AccessLog {
    fn record(&self, access: &Access<'_>) {
        let tenant = access.tenant.as_ref().map_or("-", |tenant| tenant.as_str());
        // The digest stands for the key, so the log reveals no number.
        let (subject, key) = (access.subject.as_deref().unwrap_or("-"), access.hashed_name().unwrap_or_default());
        let line = format!("{} {tenant} {subject} {:?} {key}", Utc::now().to_rfc3339(), access.kind);
        if self.0.send(line).is_err() {
            eprintln!("an access to {} of {tenant} was not recorded", access.policy);
        }
    }
}
