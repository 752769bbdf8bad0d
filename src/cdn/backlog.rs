//! The backlog: changes that must be purged, and the times of their purges. Each change is purged
//! at once and again later. An answer from before the commit may reach the shared cache after the
//! first purge. So may an answer of an instance that had not polled the change yet. The backlog
//! uses neither the database nor the network.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    time::{Duration, Instant},
};

use aside_cache::ChangeCursor;

use super::tags::ALL;

/// The maximum number of separate tags. More tags are replaced by the tag of all answers.
const MOST: usize = 20_000;

/// Changes that arrived in one poll.
struct Round {
    tags: BTreeSet<String>,
    /// The cursor of the ledger after these changes.
    cursor: ChangeCursor,
    heard: Instant,
    /// A time at which the first of them was not committed yet.
    committed: Instant,
    /// When the last successful purge was sent.
    purged: Option<Instant>,
}

pub(super) struct Backlog {
    /// The times of the purges after the arrival of changes, in ascending order. The first is zero.
    passes: Vec<Duration>,
    /// In the order of their arrival.
    rounds: VecDeque<Round>,
}

impl Backlog {
    pub(super) fn new(passes: Vec<Duration>) -> Self {
        Self { passes, rounds: VecDeque::new() }
    }

    /// Adds the changes of a poll that arrived at `now`. An empty set only moves the cursor.
    /// `max_delay` is the longest possible time since the first commit.
    pub(super) fn add(&mut self, tags: BTreeSet<String>, cursor: ChangeCursor, max_delay: Duration, now: Instant) {
        let committed = now.checked_sub(max_delay).unwrap_or(now);
        match self.rounds.back_mut() {
            // While purges fail, all new changes are merged into one round.
            Some(last) if last.purged.is_none() && !last.tags.is_empty() => {
                last.tags.extend(tags);
                (last.cursor, last.heard) = (cursor, now);
                last.tags = bounded(mem::take(&mut last.tags));
            }
            _ => self.rounds.push_back(Round { tags: bounded(tags), cursor, heard: now, committed, purged: None }),
        }
    }

    /// The tags that are due for a purge.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<String> {
        let due = self.rounds.iter().filter(|round| self.next_of(round).is_some_and(|at| at <= now));
        bounded(due.flat_map(|round| round.tags.iter().cloned()).collect())
    }

    /// Marks all rounds that were due at `sent` as purged. It returns the commit times of rounds
    /// that were purged for the first time.
    pub(super) fn purged(&mut self, sent: Instant) -> Vec<Instant> {
        let mut first = Vec::new();
        for at in 0..self.rounds.len() {
            if self.next_of(&self.rounds[at]).is_some_and(|due| due <= sent) {
                let round = &mut self.rounds[at];
                if round.purged.replace(sent).is_none() && !round.tags.is_empty() {
                    first.push(round.committed);
                }
            }
        }
        first
    }

    /// Drops the rounds that had their last purge, up to the first unfinished one, and returns the
    /// cursor of the last dropped round.
    pub(super) fn drop_finished(&mut self) -> Option<ChangeCursor> {
        let mut reached = None;
        while self.rounds.front().is_some_and(|round| self.next_of(round).is_none()) {
            reached = self.rounds.pop_front().map(|round| round.cursor);
        }
        reached
    }

    /// When the next purge is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.rounds.iter().filter_map(|round| self.next_of(round)).min()
    }

    /// The commit time of the oldest change that was never purged.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let waiting = self.rounds.iter().filter(|round| round.purged.is_none() && !round.tags.is_empty());
        waiting.map(|round| round.committed).min()
    }

    /// When the next purge of a round is due; `None` after its last purge.
    fn next_of(&self, round: &Round) -> Option<Instant> {
        let mut passes = self.passes.iter().map(|pass| round.heard + *pass);
        passes.find(|at| round.purged.is_none_or(|purged| purged < *at))
    }
}

/// Limits a set of tags to the maximum that is stored and purged.
fn bounded(tags: BTreeSet<String>) -> BTreeSet<String> {
    if tags.contains(ALL) || tags.len() > MOST { BTreeSet::from([ALL.to_owned()]) } else { tags }
}

#[cfg(test)]
mod tests {
    use aside_cache::DbTime;

    use super::*;

    const LATER: Duration = Duration::from_secs(1);
    const LAST: Duration = Duration::from_secs(10);

    fn backlog() -> (Backlog, Instant) {
        (Backlog::new(vec![Duration::ZERO, LATER, LAST]), Instant::now())
    }

    fn tags(tags: &[&str]) -> BTreeSet<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    fn cursor(number: i64) -> ChangeCursor {
        ChangeCursor { epoch: "one".into(), snapshot: format!("{number}:{number}:"), at: DbTime(number) }
    }

    #[test]
    fn a_change_is_purged_at_once_and_again_and_only_then_the_cursor_moves() {
        let (mut backlog, start) = backlog();
        backlog.add(tags(&["a"]), cursor(1), Duration::from_millis(40), start);
        for pass in [Duration::ZERO, LATER, LAST] {
            let now = start + pass;
            assert_eq!((backlog.next(), backlog.drop_finished()), (Some(now), None));
            assert_eq!(backlog.due(now), tags(&["a"]));
            backlog.purged(now);
            assert_eq!(backlog.due(now), tags(&[]));
        }
        assert_eq!((backlog.drop_finished(), backlog.next()), (Some(cursor(1)), None));
    }

    #[test]
    fn a_failed_purge_waits_and_holds_the_cursor_back() {
        let (mut backlog, start) = backlog();
        backlog.add(tags(&["a"]), cursor(1), LATER, start);
        backlog.add(tags(&[]), cursor(2), Duration::ZERO, start + LATER);
        backlog.add(tags(&["b"]), cursor(3), Duration::ZERO, start + LAST);
        let late = start + 10 * LAST;
        assert_eq!((backlog.due(late), backlog.drop_finished()), (tags(&["a", "b"]), None));
        assert_eq!(backlog.waiting_since(), Some(start - LATER));
        assert_eq!(backlog.purged(late), [start - LATER]);
        // At this time, no answer from before the change can still be in flight.
        assert_eq!((backlog.drop_finished(), backlog.waiting_since()), (Some(cursor(3)), None));
    }

    #[test]
    fn idle_time_moves_the_cursor_as_late_as_changes_do() {
        let (mut backlog, start) = backlog();
        backlog.add(tags(&[]), cursor(1), Duration::ZERO, start);
        backlog.purged(start);
        assert_eq!(backlog.drop_finished(), None);
        backlog.purged(start + LAST);
        assert_eq!((backlog.drop_finished(), backlog.waiting_since()), (Some(cursor(1)), None));
    }

    #[test]
    fn too_much_to_remember_is_everything() {
        let (mut backlog, start) = backlog();
        backlog.add(tags(&["a"]), cursor(1), Duration::ZERO, start);
        backlog.add((0..MOST).map(|id| id.to_string()).collect(), cursor(2), Duration::ZERO, start);
        assert_eq!(backlog.due(start), tags(&[ALL]));
    }
}
