//! The state that decides how fresh a cached answer must be, and the one rule that decides whether
//! it may be served ([`Freshness::check`]). L1 hits, L2 hits and the results of joined loads all
//! pass this rule.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    clock::Clock,
    consistency::floors::Floors,
    entry::{DbTime, TagVersion},
    key::Tag,
    tiers::l1::LocalEntry,
};

/// The time for which floors outlive the oldest entry that may be served. It covers the database's
/// clock being set back.
const MARGIN: Duration = Duration::from_secs(30);
/// The shortest time for which floors and rows of the ledger are kept.
pub(crate) const MIN_RETENTION: Duration = Duration::from_hours(1);
/// The largest delay of a replica of the database. It is less than [`MARGIN`], the time for which
/// floors outlive the oldest entry.
const MAX_REPLICA_LAG: Duration = Duration::from_secs(20);
/// The largest number of floors, above which they become one common floor.
const MAX_FLOORS: usize = 1_000_000;

/// The time for which a read waits for a late poll of the ledger before it goes to the database.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// The time after the end of `max_staleness` from which the database counts as down.
const OUTAGE_THRESHOLD: Duration = Duration::from_millis(500);

/// The decision whether an entry may be served, with the reason if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Serve,
    Expired,
    Invalidated,
    NotCurrent,
}

/// The epoch of one ledger on one timeline of the database. Versions of different epochs can't be
/// compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// A counter of the epochs that this instance has seen. It is 0 before the first.
    pub(crate) number: u64,
    /// The identity of the ledger and of the server's timeline. It is part of every key in L2.
    pub(crate) name: Arc<str>,
}

/// The freshness state of one instance. The poller and the instance's own writes update it.
pub(crate) struct Freshness {
    clock: Clock,
    /// D: the time for which a poll of the ledger proves that the floors are current.
    max_staleness: Duration,
    /// The time for which floors are kept. Older answers are refused.
    retention: Duration,
    /// The time at which the last answered poll was *sent*, in nanoseconds of the instance's clock.
    /// 0 means never.
    last_poll_sent_at: AtomicU64,
    /// The difference of the database's clock and the instance's clock at that poll, in
    /// microseconds.
    offset: AtomicI64,
    floors: Floors,
    /// The number of `epoch`. It can be compared without a lock.
    epoch_number: AtomicU64,
    epoch: RwLock<Epoch>,
    polled: Notify,
    /// The database's time of the last answered poll.
    statement: AtomicI64,
    /// Wakes the poller.
    wake: Notify,
}

impl Freshness {
    /// `max_age`: the highest maximum age of all policies.
    pub(crate) fn new(clock: Clock, max_staleness: Duration, max_age: Duration) -> Self {
        Self {
            clock,
            max_staleness,
            retention: max_age.max(MIN_RETENTION) + MARGIN,
            last_poll_sent_at: AtomicU64::new(0),
            offset: AtomicI64::new(0),
            floors: Floors::new(MAX_FLOORS),
            epoch_number: AtomicU64::new(0),
            epoch: RwLock::new(Epoch { number: 0, name: "".into() }),
            polled: Notify::new(),
            statement: AtomicI64::new(i64::MIN),
            wake: Notify::new(),
        }
    }

    /// The freshness rule. A cached answer may be served only if all of these are true:
    /// - the ledger was polled less than D ago;
    /// - the answer is of this epoch, and none of its versions is below the floor of its tag;
    /// - the answer was read less than its maximum age ago, and its end has not come.
    ///
    /// `now` is a moment of the request, which may be its beginning. The guarantee to a request
    /// depends on the time when it begins.
    pub(crate) fn check<T>(&self, now: Duration, key: &Tag, local: &LocalEntry<T>, max_age: Duration) -> Verdict {
        let LocalEntry { entry, epoch, .. } = local;
        if !self.is_current_at(now) {
            Verdict::NotCurrent
        } else if epoch.number != self.epoch_number.load(Ordering::Acquire)
            || !self.floors.permit(key, &entry.tag_versions, entry.loaded_at)
        {
            Verdict::Invalidated
        } else if self.age(entry.loaded_at, now) >= max_age || self.has_ended(entry.valid_until, now) {
            Verdict::Expired
        } else {
            Verdict::Serve
        }
    }

    /// Whether data from a replica may be served like data from the primary.
    pub(crate) fn accepts_replica_read(
        &self,
        key: &Tag,
        tag_versions: &[TagVersion],
        loaded_at: DbTime,
        max_age: Duration,
    ) -> bool {
        let now = self.clock.now();
        self.is_current_at(now)
            && self.floors.permit(key, tag_versions, loaded_at)
            && !self.exceeds_replica_lag(loaded_at)
            && self.age(loaded_at, now) < max_age
    }

    /// Whether a replica whose newest data are of this moment is too far behind.
    pub(crate) fn exceeds_replica_lag(&self, moment: DbTime) -> bool {
        self.age(moment, self.clock.now()) >= MAX_REPLICA_LAG
    }

    /// Whether an answer that can't be proved fresh may be served stale. It must be above every
    /// known floor, of this epoch, and not too old.
    pub(crate) fn permits_stale<T>(&self, key: &Tag, local: &LocalEntry<T>, max_age: Duration) -> bool {
        let (entry, now) = (&local.entry, self.clock.now());
        self.permits_version(key, local)
            && self.age(entry.loaded_at, now) < max_age
            && !self.has_ended(entry.valid_until, now)
    }

    /// Whether no version of an entry is below its floor, and it is of this epoch.
    pub(crate) fn permits_version<T>(&self, key: &Tag, local: &LocalEntry<T>) -> bool {
        let LocalEntry { entry, epoch, .. } = local;
        epoch.number == self.epoch_number.load(Ordering::Acquire)
            && self.floors.permit_stale(key, &entry.tag_versions, entry.loaded_at)
    }

    /// Whether the last answered poll is so long ago that the database is down and not only late.
    pub(crate) fn is_database_down(&self) -> bool {
        self.since_poll().is_some_and(|since| self.exceeds_outage_threshold(since))
    }

    /// Whether the database is down and not only late after this time without an answer.
    pub(crate) fn exceeds_outage_threshold(&self, silence: Duration) -> bool {
        silence > self.max_staleness + OUTAGE_THRESHOLD
    }

    /// Whether the last poll proves nothing any more, but the next one may only be late.
    pub(crate) fn maybe_down(&self) -> bool {
        self.since_poll().is_some_and(|since| since >= self.max_staleness) && !self.is_database_down()
    }

    /// D, the staleness bound.
    pub(crate) fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// Whether the last poll of the ledger still proves that the floors are current.
    pub(crate) fn is_current(&self) -> bool {
        self.is_current_at(self.clock.now())
    }

    fn is_current_at(&self, now: Duration) -> bool {
        self.since_poll_at(now).is_some_and(|since| since < self.max_staleness)
    }

    /// Whether the floors are current and include every change that was committed before `moment`.
    fn covers(&self, moment: DbTime) -> bool {
        self.is_current() && self.statement.load(Ordering::Acquire) >= moment.0
    }

    /// Waits a limited time until the floors are current and include every change committed before
    /// `moment`. Returns whether they do. One poll serves the whole instance. Waiting for a late
    /// poll therefore costs less than turning every cached read into a load.
    pub(crate) async fn wait_for(&self, moment: DbTime) -> bool {
        self.wait_for_within(moment, POLL_WAIT).await
    }

    /// Waits like [`Freshness::wait_for`], with another limit.
    pub(crate) async fn wait_for_within(&self, moment: DbTime, limit: Duration) -> bool {
        if self.covers(moment) {
            return true;
        }
        if self.is_database_down() {
            return false;
        }
        let polled = async {
            loop {
                let next = self.polled.notified();
                if self.covers(moment) {
                    return;
                }
                self.notify();
                next.await;
            }
        };
        tokio::time::timeout(limit, polled).await.is_ok()
    }

    /// Waits a limited time for the answer to a poll that is sent after `moment`. The floors then
    /// include every change that any answer before `moment` has shown. Returns whether they do.
    pub(crate) async fn wait_for_poll_after(&self, moment: Duration, limit: Duration) -> bool {
        let polled = async {
            loop {
                let next = self.polled.notified();
                if Duration::from_nanos(self.last_poll_sent_at.load(Ordering::Acquire)) > moment {
                    return;
                }
                self.notify();
                next.await;
            }
        };
        tokio::time::timeout(limit, polled).await.is_ok()
    }

    /// Waits like [`Freshness::wait_for`] until the floors are current. Returns the time at which
    /// they were, or at which the wait ended.
    pub(crate) async fn wait_until_current(&self, now: Duration) -> Duration {
        if self.is_current_at(now) {
            return now;
        }
        self.wait_for(DbTime(i64::MIN)).await;
        self.clock.now()
    }

    /// The time since the last answered poll was sent. It is `None` before the first.
    pub(crate) fn since_poll(&self) -> Option<Duration> {
        self.since_poll_at(self.clock.now())
    }

    fn since_poll_at(&self, now: Duration) -> Option<Duration> {
        match self.last_poll_sent_at.load(Ordering::Acquire) {
            0 => None,
            at => Some(now.saturating_sub(Duration::from_nanos(at))),
        }
    }

    /// The time between a read of the database and `now`, by the database's own clock.
    pub(crate) fn age(&self, loaded_at: DbTime, now: Duration) -> Duration {
        loaded_at.age_at(self.db_time(now))
    }

    /// Whether the end of an answer has come. The database's time is never taken for too early.
    fn has_ended(&self, valid_until: Option<DbTime>, now: Duration) -> bool {
        valid_until.is_some_and(|end| self.db_time(now) >= end)
    }

    /// The time until the end of an answer, if it has one.
    pub(crate) fn left(&self, valid_until: Option<DbTime>, now: Duration) -> Option<Duration> {
        valid_until.map(|end| self.db_time(now).age_at(end))
    }

    /// The time since an answer was last known to be current, if it was read this long ago. The
    /// last poll proves that no version of an answer that passes the freshness rule has risen. Such
    /// an answer was therefore current when that poll was sent.
    pub(crate) fn since_validation(&self, since_read: Duration, now: Duration) -> Duration {
        self.since_poll_at(now).map_or(since_read, |since_poll| since_poll.min(since_read))
    }

    /// Raises floors for changes, before the reply to a write and when the poller reports them.
    /// `after` is a moment of the database after these changes were committed.
    pub(crate) fn raise(&self, changes: &[TagVersion], after: DbTime) {
        self.floors.raise(changes, after, self.clock.now());
    }

    /// Refuses answers that depend on one of these tags and are read within the next `time`. It is
    /// for a change that may be committed within that time, with versions that are not known.
    pub(crate) fn refuse_for<'t>(&self, tags: impl IntoIterator<Item = &'t Tag>, time: Duration) {
        let (until, now) = (self.db_now().after(time), self.clock.now());
        tags.into_iter().for_each(|tag| self.floors.raise_tag_min_read_time(tag, until, now + time));
    }

    /// Refuses every answer that was read before a moment.
    pub(crate) fn raise_min_read_time(&self, moment: DbTime) {
        self.floors.raise_min_read_time(moment);
    }

    /// Records an answered poll. `sent` is the moment before the statement was sent. With the time
    /// of arrival, a slow answer would prove freshness that it does not have.
    pub(crate) fn polled(&self, sent: Duration, statement: DbTime) {
        self.set_time(sent, statement);
        self.statement.store(statement.0, Ordering::Release);
        self.last_poll_sent_at.store(sent.as_nanos() as u64, Ordering::Release);
        self.polled.notify_waiters();
    }

    /// Asks the poller to poll the ledger soon.
    pub(crate) fn notify(&self) {
        self.wake.notify_one();
    }

    /// Waits until a poll is requested.
    pub(crate) async fn notified(&self) {
        self.wake.notified().await;
    }

    /// The database's time now. It is never less than the database's clock, because it includes the
    /// time that the last poll took to arrive there.
    pub(crate) fn db_now(&self) -> DbTime {
        self.db_time(self.clock.now())
    }

    fn db_time(&self, now: Duration) -> DbTime {
        DbTime(now.as_micros() as i64 + self.offset.load(Ordering::Acquire))
    }

    fn set_time(&self, sent: Duration, statement: DbTime) {
        self.offset.store(statement.0 - sent.as_micros() as i64, Ordering::Release);
    }

    /// Begins an epoch. Floors for every change since `min_read_time` are already raised. The time
    /// of its first poll is set before. From then on tokens are given, but nothing is served before
    /// the next poll.
    pub(crate) fn begin_epoch(&self, name: Arc<str>, min_read_time: DbTime, (sent, statement): (Duration, DbTime)) {
        self.set_time(sent, statement);
        let mut epoch = self.epoch.write().unwrap_or_else(PoisonError::into_inner);
        let number = epoch.number + 1;
        *epoch = Epoch { number, name };
        self.epoch_number.store(number, Ordering::Release);
        self.floors.set_min_read_time(min_read_time);
    }

    /// Removes all floors. Nothing cached is served until the next epoch begins.
    pub(crate) fn reset(&self) {
        self.last_poll_sent_at.store(0, Ordering::Release);
        self.floors.reset();
    }

    /// The current epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Removes floors that are older than any answer that may be served, and refuses all older
    /// answers.
    pub(crate) fn sweep(&self, sent: Duration, statement: DbTime) {
        self.floors.raise_min_read_time(statement.before(self.retention));
        self.floors.sweep(sent.saturating_sub(self.retention), sent, statement);
    }

    /// The time for which floors are kept. No answer is served that is older.
    pub(crate) fn retention(&self) -> Duration {
        self.retention
    }

    /// The number of floors.
    pub(crate) fn floors(&self) -> usize {
        self.floors.len()
    }

    /// The version below which no answer with `tag` is served. It is `None` if the tag has no
    /// floor.
    pub(crate) fn floor(&self, name: &Tag) -> Option<i64> {
        Some(self.floors.of(name)).filter(|floor| *floor != i64::MIN)
    }
}

#[cfg(test)]
mod tests;
