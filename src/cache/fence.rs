//! The fence: everything that an instance knows about how fresh a cached answer has to be, and the one rule that decides whether
//! it may be served ([`Fence::judge`]). L1 hits, L2 hits and the results of joined loads all pass it.

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
    entry::{DbTime, Label},
    floors::Floors,
    key::Name,
    l1::Held,
};

/// How long floors outlive the oldest entry that may be served: covers the database's clock stepping back.
const MARGIN: Duration = Duration::from_secs(30);
/// How far a replica of the database may be behind; less than [`MARGIN`], for which floors outlive what they protect from.
const MOST_LAG: Duration = Duration::from_secs(20);
/// Floors held before they become one common floor.
const MAX_FLOORS: usize = 1_000_000;

/// How long a read waits for a late look at the ledger before it goes to the database instead.
const LOOK_WAIT: Duration = Duration::from_millis(100);
/// How long after trust has ended the database is taken to be away.
const OUTAGE: Duration = Duration::from_millis(500);

/// Why an answer may not be reused, or that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Serve,
    Expired,
    Fenced,
    Untrusted,
}

/// The life of one ledger on one timeline of the database. Numbers of different eras can't be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Era {
    /// Counts the eras this instance has seen; 0 before the first.
    pub(super) number: u64,
    /// Identity of the ledger and timeline of the server: part of every key in L2.
    pub(super) name: Arc<str>,
}

/// What one instance knows. Filled by the tail and by the instance's own writes.
pub(super) struct Fence {
    clock: Clock,
    /// D: for how long a look at the ledger proves anything.
    trust: Duration,
    /// When the last answered look was *sent*, in nanoseconds of the instance's clock; 0: never.
    looked_at: AtomicU64,
    /// The database's clock minus the instance's, in microseconds, as of that look.
    offset: AtomicI64,
    floors: Floors,
    /// The number of `era`, to be compared without a lock.
    era_number: AtomicU64,
    era: RwLock<Era>,
    looked: Notify,
    /// The database's time of that look.
    statement: AtomicI64,
    /// Wakes the tail.
    hurry: Notify,
}

impl Fence {
    pub(super) fn new(clock: Clock, trust: Duration) -> Self {
        Self {
            clock,
            trust,
            looked_at: AtomicU64::new(0),
            offset: AtomicI64::new(0),
            floors: Floors::new(MAX_FLOORS),
            era_number: AtomicU64::new(0),
            era: RwLock::new(Era { number: 0, name: "".into() }),
            looked: Notify::new(),
            statement: AtomicI64::new(i64::MIN),
            hurry: Notify::new(),
        }
    }

    /// The serve rule: a cached answer may be served only if (a) the ledger was looked at less than D ago, (b) the answer is of
    /// this era and none of its numbers is below the floor of its name, (c) it was read less than its maximal age ago.
    ///
    /// `now`: a moment of the request, which may be its beginning: what is promised is promised to requests by when they begin.
    pub(super) fn judge<T>(&self, now: Duration, key: &Name, held: &Held<T>, max_age: Duration) -> Verdict {
        let Held { entry, era, .. } = held;
        if !self.trusted_at(now) {
            Verdict::Untrusted
        } else if era.number != self.era_number.load(Ordering::Acquire)
            || !self.floors.permit(key, &entry.labels, entry.loaded_at)
        {
            Verdict::Fenced
        } else if self.age(entry.loaded_at, now) >= max_age {
            Verdict::Expired
        } else {
            Verdict::Serve
        }
    }

    /// Whether what a replica says may be served as if the primary said it.
    pub(super) fn vouches_for(&self, key: &Name, labels: &[Label], loaded_at: DbTime, max_age: Duration) -> bool {
        let now = self.clock.now();
        self.trusted_at(now)
            && self.floors.permit(key, labels, loaded_at)
            && !self.is_far_behind(loaded_at)
            && self.age(loaded_at, now) < max_age
    }

    /// Whether a replica that shows nothing younger than this moment is too far behind.
    pub(super) fn is_far_behind(&self, moment: DbTime) -> bool {
        self.age(moment, self.clock.now()) >= MOST_LAG
    }

    /// Whether an answer that can't be proved fresh is at least above every floor that is known, of this era, and not too old.
    pub(super) fn tolerates<T>(&self, key: &Name, held: &Held<T>, max_age: Duration) -> bool {
        let Held { entry, era, .. } = held;
        era.number == self.era_number.load(Ordering::Acquire)
            && self.floors.permit(key, &entry.labels, entry.loaded_at)
            && self.age(entry.loaded_at, self.clock.now()) < max_age
    }

    /// Whether the ledger has not been looked at for so long that the database must be away, not only late.
    pub(super) fn in_outage(&self) -> bool {
        self.since_look().is_some_and(|since| self.is_outage(since))
    }

    /// Whether the database must be away, not only late, when it has not answered for so long.
    pub(super) fn is_outage(&self, silence: Duration) -> bool {
        silence > self.trust + OUTAGE
    }

    /// Whether the last look proves nothing any more, and the next one may only be late.
    pub(super) fn in_doubt(&self) -> bool {
        self.since_look().is_some_and(|since| since >= self.trust) && !self.in_outage()
    }

    /// D.
    pub(super) fn trust(&self) -> Duration {
        self.trust
    }

    /// Whether the last look at the ledger still proves anything.
    pub(super) fn trusted(&self) -> bool {
        self.trusted_at(self.clock.now())
    }

    fn trusted_at(&self, now: Duration) -> bool {
        self.since_look_at(now).is_some_and(|since| since < self.trust)
    }

    /// Whether the floors are trusted, and cover everything that was committed before `moment`.
    fn covers(&self, moment: DbTime) -> bool {
        self.trusted() && self.statement.load(Ordering::Acquire) >= moment.0
    }

    /// Waits until the floors are trusted and cover everything committed before `moment`, for a while; says whether they do.
    /// One look serves the whole instance, so a late one is cheaper to wait for than to turn every cached read into a load.
    pub(super) async fn wait_for(&self, moment: DbTime) -> bool {
        self.wait_for_within(moment, LOOK_WAIT).await
    }

    /// The same with another limit.
    pub(super) async fn wait_for_within(&self, moment: DbTime, limit: Duration) -> bool {
        if self.covers(moment) {
            return true;
        }
        if self.in_outage() {
            return false;
        }
        let looked = async {
            loop {
                let next = self.looked.notified();
                if self.covers(moment) {
                    return;
                }
                self.hurry();
                next.await;
            }
        };
        tokio::time::timeout(limit, looked).await.is_ok()
    }

    /// Waits until the floors are trusted, as [`Fence::wait_for`]; when that was, or gave up.
    pub(super) async fn wait_for_trust(&self, now: Duration) -> Duration {
        if self.trusted_at(now) {
            return now;
        }
        self.wait_for(DbTime(i64::MIN)).await;
        self.clock.now()
    }

    /// Time since the last answered look was sent; `None` before the first.
    pub(super) fn since_look(&self) -> Option<Duration> {
        self.since_look_at(self.clock.now())
    }

    fn since_look_at(&self, now: Duration) -> Option<Duration> {
        match self.looked_at.load(Ordering::Acquire) {
            0 => None,
            at => Some(now.saturating_sub(Duration::from_nanos(at))),
        }
    }

    /// How long before `now` the database was read, by the database's own clock.
    pub(super) fn age(&self, loaded_at: DbTime, now: Duration) -> Duration {
        loaded_at.age_at(self.db_time(now))
    }

    /// Time since an answer that was read so long ago was last known to be current. A look proves that no number has risen, so
    /// what passes the serve rule was current when the last look was sent.
    pub(super) fn since_validation(&self, since_read: Duration, now: Duration) -> Duration {
        self.since_look_at(now).map_or(since_read, |since_look| since_look.min(since_read))
    }

    /// Takes note of changes: before the reply to a write, and when the tail reports them. `after` is a moment of the database
    /// after they were committed.
    pub(super) fn raise(&self, changes: &[Label], after: DbTime) {
        self.floors.raise(changes, after, self.clock.now());
    }

    /// Refuses everything that was read before a moment.
    pub(super) fn refuse_before(&self, moment: DbTime) {
        self.floors.refuse_before(moment);
    }

    /// Takes note of an answered look. `sent` is the moment before the statement was sent: the time of arrival would let a
    /// slow answer prove freshness it doesn't have.
    pub(super) fn looked(&self, sent: Duration, statement: DbTime) {
        self.set_time(sent, statement);
        self.statement.store(statement.0, Ordering::Release);
        self.looked_at.store(sent.as_nanos() as u64, Ordering::Release);
        self.looked.notify_waiters();
    }

    /// Asks the tail to look at the ledger soon.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Ends when somebody is in a hurry.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// The database's time now: never less than what its clock says, because the way of the last look's question is counted in.
    pub(super) fn db_now(&self) -> DbTime {
        self.db_time(self.clock.now())
    }

    fn db_time(&self, now: Duration) -> DbTime {
        DbTime(now.as_micros() as i64 + self.offset.load(Ordering::Acquire))
    }

    fn set_time(&self, sent: Duration, statement: DbTime) {
        self.offset.store(statement.0 - sent.as_micros() as i64, Ordering::Release);
    }

    /// Begins an era: floors for everything that changed since `accept_from` are already raised. The time of its first look goes
    /// before: from here on tokens are given, though nothing is served before the next look.
    pub(super) fn begin_era(&self, name: Arc<str>, accept_from: DbTime, (sent, statement): (Duration, DbTime)) {
        self.set_time(sent, statement);
        let mut era = self.era.write().unwrap_or_else(PoisonError::into_inner);
        let number = era.number + 1;
        *era = Era { number, name };
        self.era_number.store(number, Ordering::Release);
        self.floors.accept_from(accept_from);
    }

    /// Forgets everything: nothing cached is served until the next era begins.
    pub(super) fn distrust(&self) {
        self.looked_at.store(0, Ordering::Release);
        self.floors.reset();
    }

    /// The current era.
    pub(super) fn era(&self) -> Era {
        self.era.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets floors that are older than anything that may be served, and sees to it that nothing older is.
    pub(super) fn sweep(&self, sent: Duration, statement: DbTime) {
        self.floors.refuse_before(statement.before(Self::memory()));
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

    /// The number below which nothing under `name` is served; `None`: none is known.
    pub(super) fn floor(&self, name: &Name) -> Option<i64> {
        Some(self.floors.of(name)).filter(|floor| *floor != i64::MIN)
    }
}
