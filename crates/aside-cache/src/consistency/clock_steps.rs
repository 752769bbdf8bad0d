//! Ends the epoch when the clock of the database was set back. Floors, wildcards and ages compare
//! moments of that clock, so moments before the step and after it can't be in one epoch. A clock
//! that was ahead for a while must not leave floors of the future behind, either.

use std::time::Duration;

use crate::{consistency::ledger::LedgerConnection, entry::DbTime};

/// The largest step back between two polls that counts as none.
const TOLERANCE: Duration = Duration::from_millis(20);

/// Whether the clock was set back between two polls on one server.
pub(crate) fn is_step_back(before: DbTime, after: DbTime) -> bool {
    after.after(TOLERANCE) < before
}

impl LedgerConnection {
    /// Begins another epoch in the place of this one, unless another instance has done so.
    ///
    /// # Errors
    /// If the database can't be changed.
    pub(crate) async fn end_epoch(&mut self, epoch: &str) -> Result<(), sqlx::Error> {
        let sql =
            "update cache_epochs set id = gen_random_uuid() where left(md5(id::text), 12) = $1 returning id::text";
        sqlx::query_scalar::<_, String>(sql).bind(epoch).fetch_optional(&mut self.db).await?;
        Ok(())
    }

    /// Ends the epoch if one of its checkpoints is of the future. The clock was then set back while
    /// no instance polled.
    ///
    /// # Errors
    /// If the database can't be asked or changed.
    pub(crate) async fn end_epoch_of_the_future(&mut self) -> Result<(), sqlx::Error> {
        let sql = "select epoch from cache_checkpoints
            where taken_at > now() + interval '1 second' and epoch = (select cache_epoch()) limit 1";
        match sqlx::query_scalar::<_, String>(sql).fetch_optional(&mut self.db).await? {
            Some(epoch) => self.end_epoch(&epoch).await,
            None => Ok(()),
        }
    }
}

#[test]
fn only_a_step_back_is_one() {
    let moment = DbTime(1_000_000_000);
    assert!(!is_step_back(moment, moment.after(Duration::from_secs(9))));
    assert!(!is_step_back(moment, moment));
    assert!(is_step_back(moment, moment.before(Duration::from_secs(1))));
}
