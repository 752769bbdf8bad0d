//! Freshness: everything that an instance knows about how fresh a cached answer has to be, and the one rule that decides whether
//! it may be served ([`Freshness::check`]). L1 hits, L2 hits and the results of joined loads all pass it.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    clock::Clock,
    entry::{DbTime, TagVersion},
    floors::Floors,
    key::Tag,
    l1::LocalEntry,
};

/// How long floors outlive the oldest entry that may be served: covers the database's clock stepping back.
const MARGIN: Duration = Duration::from_secs(30);
/// How far a replica of the database may be behind; less than [`MARGIN`], for which floors outlive what they protect from.
const MAX_REPLICA_LAG: Duration = Duration::from_secs(20);
/// Floors held before they become one common floor.
const MAX_FLOORS: usize = 1_000_000;

/// How long a read waits for a late poll of the ledger before it goes to the database instead.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How long after the staleness bound has passed the database is taken to be away.
const OUTAGE_THRESHOLD: Duration = Duration::from_millis(500);

/// Why an entry may not be served, or that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Serve,
    Expired,
    Invalidated,
    NotCurrent,
}

/// The epoch of one ledger on one timeline of the database. Versions of different epochs can't be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    /// Counts the epochs this instance has seen; 0 before the first.
    pub(super) number: u64,
    /// Identity of the ledger and timeline of the server: part of every key in L2.
    pub(super) name: Arc<str>,
}

/// What one instance knows. Filled by the poller and by the instance's own writes.
pub(super) struct Freshness {
    clock: Clock,
    /// D: for how long a poll of the ledger proves anything.
    max_staleness: Duration,
    /// When the last answered poll was *sent*, in nanoseconds of the instance's clock; 0: never.
    last_poll_sent_at: AtomicU64,
    /// The database's clock minus the instance's, in microseconds, as of that poll.
    offset: AtomicI64,
    floors: Floors,
    /// The number of `epoch`, to be compared without a lock.
    epoch_number: AtomicU64,
    epoch: RwLock<Epoch>,
    polled: Notify,
    /// The database's time of that poll.
    statement: AtomicI64,
    /// Wakes the poller.
    wake: Notify,
}

impl Freshness {
    pub(super) fn new(clock: Clock, max_staleness: Duration) -> Self {
        Self {
            clock,
            max_staleness,
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

    /// The freshness rule: a cached answer may be served only if (a) the ledger was polled less than D ago, (b) the answer is of
    /// this epoch and none of its versions is below the floor of its tag, (c) it was read less than its maximal age ago.
    ///
    /// `now`: a moment of the request, which may be its beginning: what is promised is promised to requests by when they begin.
    pub(super) fn check<T>(&self, now: Duration, key: &Tag, local: &LocalEntry<T>, max_age: Duration) -> Verdict {
        let LocalEntry { entry, epoch, .. } = local;
        if !self.is_current_at(now) {
            Verdict::NotCurrent
        } else if epoch.number != self.epoch_number.load(Ordering::Acquire)
            || !self.floors.permit(key, &entry.tag_versions, entry.loaded_at)
        {
            Verdict::Invalidated
        } else if self.age(entry.loaded_at, now) >= max_age {
            Verdict::Expired
        } else {
            Verdict::Serve
        }
    }

    /// Whether what a replica says may be served as if the primary said it.
    pub(super) fn accepts_replica_read(
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

    /// Whether a replica that shows nothing younger than this moment is too far behind.
    pub(super) fn exceeds_replica_lag(&self, moment: DbTime) -> bool {
        self.age(moment, self.clock.now()) >= MAX_REPLICA_LAG
    }

    /// Whether an answer that can't be proved fresh is at least above every floor that is known, of this epoch, and not too old.
    pub(super) fn permits_stale<T>(&self, key: &Tag, local: &LocalEntry<T>, max_age: Duration) -> bool {
        let LocalEntry { entry, epoch, .. } = local;
        epoch.number == self.epoch_number.load(Ordering::Acquire)
            && self.floors.permit(key, &entry.tag_versions, entry.loaded_at)
            && self.age(entry.loaded_at, self.clock.now()) < max_age
    }

    /// Whether the ledger has not been polled for so long that the database must be away, not only late.
    pub(super) fn is_database_down(&self) -> bool {
        self.since_poll().is_some_and(|since| self.exceeds_outage_threshold(since))
    }

    /// Whether the database must be away, not only late, when it has not answered for so long.
    pub(super) fn exceeds_outage_threshold(&self, silence: Duration) -> bool {
        silence > self.max_staleness + OUTAGE_THRESHOLD
    }

    /// Whether the last poll proves nothing any more, and the next one may only be late.
    pub(super) fn maybe_down(&self) -> bool {
        self.since_poll().is_some_and(|since| since >= self.max_staleness) && !self.is_database_down()
    }

    /// D.
    pub(super) fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// Whether the last poll of the ledger still proves anything.
    pub(super) fn is_current(&self) -> bool {
        self.is_current_at(self.clock.now())
    }

    fn is_current_at(&self, now: Duration) -> bool {
        self.since_poll_at(now).is_some_and(|since| since < self.max_staleness)
    }

    /// Whether the floors are current, and cover everything that was committed before `moment`.
    fn covers(&self, moment: DbTime) -> bool {
        self.is_current() && self.statement.load(Ordering::Acquire) >= moment.0
    }

    /// Waits until the floors are current and cover everything committed before `moment`, for a while; says whether they do.
    /// One poll serves the whole instance, so a late one is cheaper to wait for than to turn every cached read into a load.
    pub(super) async fn wait_for(&self, moment: DbTime) -> bool {
        self.wait_for_within(moment, POLL_WAIT).await
    }

    /// The same with another limit.
    pub(super) async fn wait_for_within(&self, moment: DbTime, limit: Duration) -> bool {
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

    /// Waits until the floors are current, as [`Freshness::wait_for`]; when that was, or gave up.
    pub(super) async fn wait_until_current(&self, now: Duration) -> Duration {
        if self.is_current_at(now) {
            return now;
        }
        self.wait_for(DbTime(i64::MIN)).await;
        self.clock.now()
    }

    /// Time since the last answered poll was sent; `None` before the first.
    pub(super) fn since_poll(&self) -> Option<Duration> {
        self.since_poll_at(self.clock.now())
    }

    fn since_poll_at(&self, now: Duration) -> Option<Duration> {
        match self.last_poll_sent_at.load(Ordering::Acquire) {
            0 => None,
            at => Some(now.saturating_sub(Duration::from_nanos(at))),
        }
    }

    /// How long before `now` the database was read, by the database's own clock.
    pub(super) fn age(&self, loaded_at: DbTime, now: Duration) -> Duration {
        loaded_at.age_at(self.db_time(now))
    }

    /// Time since an answer that was read so long ago was last known to be current. A poll proves that no version has risen, so
    /// what passes the freshness rule was current when the last poll was sent.
    pub(super) fn since_validation(&self, since_read: Duration, now: Duration) -> Duration {
        self.since_poll_at(now).map_or(since_read, |since_poll| since_poll.min(since_read))
    }

    /// Takes note of changes: before the reply to a write, and when the poller reports them. `after` is a moment of the database
    /// after they were committed.
    pub(super) fn raise(&self, changes: &[TagVersion], after: DbTime) {
        self.floors.raise(changes, after, self.clock.now());
    }

    /// Refuses everything that was read before a moment.
    pub(super) fn raise_min_read_time(&self, moment: DbTime) {
        self.floors.raise_min_read_time(moment);
    }

    /// Takes note of an answered poll. `sent` is the moment before the statement was sent: the time of arrival would let a
    /// slow answer prove freshness it doesn't have.
    pub(super) fn polled(&self, sent: Duration, statement: DbTime) {
        self.set_time(sent, statement);
        self.statement.store(statement.0, Ordering::Release);
        self.last_poll_sent_at.store(sent.as_nanos() as u64, Ordering::Release);
        self.polled.notify_waiters();
    }

    /// Asks the poller to poll the ledger soon.
    pub(super) fn notify(&self) {
        self.wake.notify_one();
    }

    /// Ends when somebody has asked for a poll.
    pub(super) async fn notified(&self) {
        self.wake.notified().await;
    }

    /// The database's time now: never less than what its clock says, because the way of the last poll's question is counted in.
    pub(super) fn db_now(&self) -> DbTime {
        self.db_time(self.clock.now())
    }

    fn db_time(&self, now: Duration) -> DbTime {
        DbTime(now.as_micros() as i64 + self.offset.load(Ordering::Acquire))
    }

    fn set_time(&self, sent: Duration, statement: DbTime) {
        self.offset.store(statement.0 - sent.as_micros() as i64, Ordering::Release);
    }

    /// Begins an epoch: floors for everything that changed since `min_read_time` are already raised. The time of its first poll goes
    /// before: from here on tokens are given, though nothing is served before the next poll.
    pub(super) fn begin_epoch(&self, name: Arc<str>, min_read_time: DbTime, (sent, statement): (Duration, DbTime)) {
        self.set_time(sent, statement);
        let mut epoch = self.epoch.write().unwrap_or_else(PoisonError::into_inner);
        let number = epoch.number + 1;
        *epoch = Epoch { number, name };
        self.epoch_number.store(number, Ordering::Release);
        self.floors.set_min_read_time(min_read_time);
    }

    /// Forgets everything: nothing cached is served until the next epoch begins.
    pub(super) fn reset(&self) {
        self.last_poll_sent_at.store(0, Ordering::Release);
        self.floors.reset();
    }

    /// The current epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets floors that are older than anything that may be served, and sees to it that nothing older is.
    pub(super) fn sweep(&self, sent: Duration, statement: DbTime) {
        self.floors.raise_min_read_time(statement.before(Self::memory()));
        self.floors.sweep(sent.saturating_sub(Self::memory()), sent, statement);
    }

    /// How long floors are kept.
    pub(super) fn memory() -> Duration {
        super::policy::MAX_AGE_CAP + MARGIN
    }

    /// How many floors are held.
    pub(super) fn floors(&self) -> usize {
        self.floors.len()
    }

    /// The version below which nothing under `tag` is served; `None`: none is known.
    pub(super) fn floor(&self, name: &Tag) -> Option<i64> {
        Some(self.floors.of(name)).filter(|floor| *floor != i64::MIN)
    }
}
