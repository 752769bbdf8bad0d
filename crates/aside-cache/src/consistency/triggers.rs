//! Checks the triggers that invalidate the changes of other writers. The promise about those
//! writers depends on them. The owner of a table can disable its triggers: by `disable trigger`, or
//! by a restore that does so.
//!
//! Changes under a disabled or missing trigger are unknown, so everything cached is invalidated once
//! a minute until the trigger fires again. `enable trigger` alone does not restore the trigger: it
//! then fires in ordinary sessions only. This is logged, and everything is invalidated once.
//! `cache_generate_triggers` restores the triggers of a tracked table.
//!
//! No trigger fires when a partition is attached or detached, although its rows come or go. So
//! everything is invalidated once when the partitions of tracked tables are not those of the last
//! check. Only a superuser could create an event trigger for it.

use std::{collections::BTreeSet, time::Duration};

use crate::consistency::ledger::LedgerConnection;

/// How often the triggers are checked.
const TRIGGER_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The state of the triggers as of the last check.
#[derive(Default)]
pub(crate) struct TriggerWatch {
    due: Duration,
    /// The triggers that were not enabled as they should be.
    reported: BTreeSet<String>,
    /// The partitions of tracked tables.
    partitions: Option<BTreeSet<String>>,
}

impl TriggerWatch {
    /// Checks the triggers, at most once a minute. `now` is a time of the instance's clock.
    ///
    /// # Errors
    /// If the database can't be asked.
    pub(crate) async fn check(&mut self, connection: &mut LedgerConnection, now: Duration) -> Result<(), sqlx::Error> {
        if now < self.due {
            return Ok(());
        }
        let silent = connection.silent_triggers().await?;
        let is_news = silent.iter().any(|(trigger, _)| !self.reported.contains(trigger));
        let is_deaf = silent.iter().any(|(_, fires)| !fires);
        let partitions = connection.partitions().await?;
        let is_other = self.partitions.as_ref().is_some_and(|known| *known != partitions);
        if is_other {
            tracing::info!("partitions of tracked tables have come or gone: everything cached is refused once");
        }
        if is_news || is_deaf || is_other {
            connection.raise_everything().await?;
        }
        self.partitions = Some(partitions);
        for (trigger, fires) in &silent {
            if *fires && !self.reported.contains(trigger) {
                tracing::warn!(
                    trigger,
                    "a trigger fires in some sessions only, so it was disabled for a while; \
                    everything cached is refused once. Run: select cache_generate_triggers('TABLE')"
                );
            } else if !fires {
                tracing::error!(
                    trigger,
                    "a trigger is disabled or missing, so changes by other writers are not noticed; \
                    everything cached is refused once a minute. Run: select cache_generate_triggers('TABLE')"
                );
            }
        }
        self.reported = silent.into_iter().map(|(trigger, _)| trigger).collect();
        self.due = now + TRIGGER_CHECK_INTERVAL;
        Ok(())
    }
}

impl LedgerConnection {
    /// The partitions and other heirs of tracked tables, each with its place.
    async fn partitions(&mut self) -> Result<BTreeSet<String>, sqlx::Error> {
        let sql = "with recursive members as (
                select inhrelid, inhparent from pg_catalog.pg_inherits where inhparent in (select tracked from cache_tracked)
                union select heir.inhrelid, heir.inhparent from pg_catalog.pg_inherits heir join members on heir.inhparent = members.inhrelid
            )
            select inhrelid || ' of ' || inhparent from members";
        Ok(sqlx::query_scalar(sql).fetch_all(&mut self.db).await?.into_iter().collect())
    }

    /// The triggers for other writers that don't fire in every session that they are for, as
    /// `table.trigger`. Triggers that `cache_track` generated and that are missing belong to them.
    /// Each has a flag that says whether it fires at all.
    async fn silent_triggers(&mut self) -> Result<Vec<(String, bool)>, sqlx::Error> {
        let sql = "select tgrelid::regclass || '.' || tgname, tgenabled <> 'D'
            from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
            where tgenabled <> 'A' and not (tgenabled = 'R' and tgname = 'invalidates_replicated')
                and not tgisinternal and proname like 'cache\\_%'
                and pronamespace = (select relnamespace from pg_catalog.pg_class where oid = 'cache_ledger'::regclass)
            union all
            select tracked || '.invalidates_' || event, false
            from cache_tracked join pg_catalog.pg_class on pg_class.oid = tracked,
                unnest(array['inserted', 'updated', 'deleted', 'truncated', 'replicated']) as event
            where not exists (
                select from pg_catalog.pg_trigger where tgrelid = tracked and tgname = 'invalidates_' || event)
            order by 1";
        sqlx::query_as(sql).fetch_all(&mut self.db).await
    }
}
