//! Checks the triggers that invalidate the changes of other writers. The promise about those
//! writers depends on them. The owner of a table can disable its triggers: by `disable trigger`, or
//! by a restore that does so.
//!
//! Changes under a disabled trigger are unknown, so everything cached is invalidated once a minute
//! until the trigger fires again. `enable trigger` alone does not restore the trigger: it then
//! fires in ordinary sessions only. This is logged, and everything is invalidated once.

use std::{collections::BTreeSet, time::Duration};

use super::ledger::LedgerConnection;

/// How often the triggers are checked.
const TRIGGER_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The state of the triggers as of the last check.
#[derive(Default)]
pub(super) struct TriggerWatch {
    due: Duration,
    /// The triggers that were not enabled as they should be.
    reported: BTreeSet<String>,
}

impl TriggerWatch {
    /// Checks the triggers, at most once a minute. `now` is a time of the instance's clock.
    ///
    /// # Errors
    /// If the database can't be asked.
    pub(super) async fn check(&mut self, connection: &mut LedgerConnection, now: Duration) -> Result<(), sqlx::Error> {
        if now < self.due {
            return Ok(());
        }
        let silent = connection.silent_triggers().await?;
        let is_news = silent.iter().any(|(trigger, _)| !self.reported.contains(trigger));
        let is_deaf = silent.iter().any(|(_, fires)| !fires);
        if is_news || is_deaf {
            connection.raise_everything().await?;
        }
        for (trigger, fires) in &silent {
            if *fires && !self.reported.contains(trigger) {
                tracing::warn!(
                    trigger,
                    "a trigger fires in ordinary sessions only, so it was disabled for a while; \
                    everything cached is refused once. Run: alter table TABLE enable always trigger TRIGGER"
                );
            } else if !fires {
                tracing::error!(
                    trigger,
                    "a trigger is disabled, so changes by other writers are not noticed; \
                    everything cached is refused once a minute. Run: alter table TABLE enable always trigger TRIGGER"
                );
            }
        }
        self.reported = silent.into_iter().map(|(trigger, _)| trigger).collect();
        self.due = now + TRIGGER_CHECK_INTERVAL;
        Ok(())
    }
}
