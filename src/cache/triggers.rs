//! Watches the triggers that name what other writers change. The promise about those writers rests on them, and they can be
//! disabled by anyone who owns their tables: by `disable trigger`, and by restores that do so in passing.
//!
//! Nobody knows what was changed while a trigger was disabled, so everything cached is refused then, once a minute, until the
//! trigger fires again. `enable trigger` alone does not bring it back as it was: it then fires in ordinary sessions only. That
//! is said, and everything is refused once.

use std::{collections::BTreeSet, time::Duration};

use super::ledger::LedgerConnection;

/// How often the triggers are checked.
const TRIGGER_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// What one instance knows of the triggers.
#[derive(Default)]
pub(super) struct TriggerWatch {
    due: Duration,
    /// Those that were not as they should be.
    reported: BTreeSet<String>,
}

impl TriggerWatch {
    /// Checks the triggers, unless it did so in the last minute. `now` is of the instance's clock.
    ///
    /// # Errors
    /// When the database can't be asked.
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
