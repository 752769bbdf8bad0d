//! Derives duties from states and acknowledged writes. A duty is the oldest state that a read which
//! begins at a moment may show.
//!
//! Versions give the order, so the checker does not search. Each question is a binary search in a
//! list sorted by time.

use std::collections::HashMap;

use super::history::{Ack, History, Key, List, Micros, Record, Sight, State, Told};

/// The largest expected distance between the database's clock and the driver's within a run. Both
/// run on this machine, so only a clock step can part them.
pub const CLOCKS: Micros = 20_000;

/// A state that a read must have seen, and the record of the write that requires it.
pub type Duty = (usize, usize);

/// Acknowledgements in the order of their completion, each with the highest state acknowledged so
/// far.
#[derive(Default)]
struct Duties(Vec<(Micros, Duty)>);

impl Duties {
    fn new(mut acknowledged: Vec<(Micros, Duty)>) -> Self {
        acknowledged.sort_by_key(|(completed, _)| *completed);
        let mut highest: Option<Duty> = None;
        for (_, duty) in &mut acknowledged {
            *duty = highest.filter(|(state, _)| *state >= duty.0).unwrap_or(*duty);
            highest = Some(*duty);
        }
        Self(acknowledged)
    }

    /// The highest state whose write was completed before `moment`.
    fn before(&self, moment: Micros) -> Option<Duty> {
        let later = self.0.partition_point(|(completed, _)| *completed < moment);
        later.checked_sub(1).map(|last| self.0[last].1)
    }
}

/// The states of one row, and the acknowledgements of its writes.
#[derive(Default)]
pub struct Timeline {
    pub states: Vec<State>,
    /// For each state, when the earliest write of a later state was acknowledged.
    overtaken: Vec<Micros>,
    anywhere: Duties,
    fleet: Duties,
    own: HashMap<u8, Duties>,
    /// Per instance, only the writes that made the row join or leave a list.
    own_moves: HashMap<u8, Duties>,
    by_digest: HashMap<u64, usize>,
}

/// The committed history of all rows that the run changed.
pub struct Truth {
    timelines: HashMap<Key, Timeline>,
    /// For each list, every row that ever belonged to it.
    pub universe: HashMap<List, Vec<Key>>,
    by_transaction: HashMap<u64, Vec<(Key, usize)>>,
}

impl Truth {
    pub fn of(history: &History) -> Self {
        let mut truth = Self { timelines: HashMap::new(), universe: HashMap::new(), by_transaction: HashMap::new() };
        for (key, states) in &history.audit {
            truth.add(*key, states);
        }
        let mut acknowledged: HashMap<Key, Vec<(usize, usize)>> = HashMap::new();
        for (at, record) in history.records.iter().enumerate() {
            if let Told::Written(ack) = &record.told {
                for (key, state) in truth.made(*ack) {
                    acknowledged.entry(key).or_default().push((state, at));
                }
            }
        }
        for (key, writes) in acknowledged {
            if let Some(timeline) = truth.timelines.get_mut(&key) {
                timeline.acknowledge(&writes, &history.records);
            }
        }
        truth
    }

    fn add(&mut self, key: Key, states: &[State]) {
        let digests = states.iter().enumerate().filter_map(|(at, state)| Some((state.digest?, at)));
        for (at, state) in states.iter().enumerate() {
            if state.xid > 0 {
                self.by_transaction.entry(state.xid).or_default().push((key, at));
            }
            if let Some(list) = &state.member {
                let members = self.universe.entry(list.clone()).or_default();
                if members.last() != Some(&key) && !members.contains(&key) {
                    members.push(key);
                }
            }
        }
        let timeline = Timeline {
            by_digest: digests.collect(),
            overtaken: vec![Micros::MAX; states.len()],
            states: states.to_vec(),
            ..Timeline::default()
        };
        self.timelines.insert(key, timeline);
    }

    /// The states that an acknowledged write has made. Empty if the database has no trace of the
    /// write.
    pub fn made(&self, ack: Ack) -> Vec<(Key, usize)> {
        let state = |key: Key, version: i64| {
            let states = &self.timelines.get(&key)?.states;
            states.iter().rposition(|state| state.version == version).map(|at| (key, at))
        };
        match ack {
            Ack::Version(key, version) => state(key, version).into_iter().collect(),
            Ack::Transaction(xid) => self.by_transaction.get(&xid).cloned().unwrap_or_default(),
            Ack::TransactionOf(key, version) => {
                let Some((key, at)) = state(key, version) else { return Vec::new() };
                let xid = self.timelines[&key].states[at].xid;
                self.by_transaction.get(&xid).cloned().unwrap_or_default()
            }
        }
    }

    pub fn timeline(&self, key: Key) -> Option<&Timeline> {
        self.timelines.get(&key)
    }
}

impl Timeline {
    fn acknowledge(&mut self, writes: &[(usize, usize)], records: &[Record]) {
        let (mut own, mut own_moves): (HashMap<u8, Vec<_>>, HashMap<u8, Vec<_>>) = Default::default();
        let (mut anywhere, mut fleet) = (Vec::new(), Vec::new());
        let mut first = vec![Micros::MAX; self.states.len()];
        for &(state, at) in writes {
            let record = &records[at];
            let duty = (record.completed, (state, at));
            anywhere.push(duty);
            if record.fleet {
                fleet.push(duty);
            }
            if let Some(instance) = record.instance {
                own.entry(instance).or_default().push(duty);
                if state > 0 && self.states[state - 1].member != self.states[state].member {
                    own_moves.entry(instance).or_default().push(duty);
                }
            }
            first[state] = first[state].min(record.completed);
        }
        let mut earliest = Micros::MAX;
        for state in (0..self.states.len()).rev() {
            self.overtaken[state] = earliest;
            earliest = earliest.min(first[state]);
        }
        self.anywhere = Duties::new(anywhere);
        self.fleet = Duties::new(fleet);
        self.own = own.into_iter().map(|(instance, duties)| (instance, Duties::new(duties))).collect();
        self.own_moves = own_moves.into_iter().map(|(instance, duties)| (instance, Duties::new(duties))).collect();
    }

    /// The state that a representation shows.
    pub fn state_of(&self, sight: Sight) -> Option<usize> {
        self.by_digest.get(&sight.digest).copied().filter(|at| self.states[*at].version == sight.version)
    }

    /// The latest state outside `list` that could be known at `moment`. `None` asks for a state in
    /// which the row does not exist.
    pub fn latest_without(&self, list: Option<&List>, moment: Micros) -> Option<usize> {
        self.states.iter().enumerate().rposition(|(at, state)| {
            let away = match list {
                Some(list) => state.member.as_ref() != Some(list),
                None => state.digest.is_none(),
            };
            away && self.committed_after(at) <= moment
        })
    }

    /// A moment before the commit of a state.
    pub fn committed_after(&self, state: usize) -> Micros {
        self.states[state].made.saturating_sub(CLOCKS)
    }

    /// When a write that replaced this state was first acknowledged.
    pub fn overtaken(&self, state: usize) -> Micros {
        self.overtaken.get(state).copied().unwrap_or(Micros::MAX)
    }

    /// The states that a read beginning at `moment` on `instance` must have seen, by rule. `shown`
    /// says whether the answer shows the row. If a page does not show it, A2 covers fewer of the
    /// instance's own writes: those that made the row join or leave a list.
    pub fn duties(
        &self,
        instance: Option<u8>,
        shown: bool,
        moment: Micros,
        max_staleness: Micros,
    ) -> [(&'static str, Option<Duty>); 3] {
        let own = if shown { &self.own } else { &self.own_moves };
        let own = instance.and_then(|instance| own.get(&instance));
        [
            ("A2", own.and_then(|own| own.before(moment))),
            ("A3", moment.checked_sub(max_staleness).and_then(|moment| self.anywhere.before(moment))),
            ("A4", self.fleet.before(moment)),
        ]
    }
}
