//! Memory pressure: how full the memory of each tier is. There are two thresholds, 70 % and 85 %.
//! Passing a threshold is logged once and exported. From then on entries get shorter lifetimes in
//! L2, so that old entries expire before L2 has to evict entries in use.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use crate::{tiers::guard::GuardedL2, tiers::l1::L1, tiers::l2::NodeMemory};

/// Pause between two polls of the memory.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The thresholds, as parts of the memory limit.
const WARNING: f64 = 0.70;
const CRITICAL: f64 = 0.85;
/// How far below its threshold a state ends. Without this distance, the state would change back and
/// forth at the threshold.
const HYSTERESIS: f64 = 0.05;

/// How full a memory is.
///
/// ```
/// use aside_cache::MemoryState;
///
/// assert!(MemoryState::Critical > MemoryState::Normal);
/// assert_eq!(MemoryState::Warning.to_string(), "warning");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryState {
    /// Below 70 %, or without a limit.
    #[default]
    Normal,
    /// From 70 %.
    Warning,
    /// From 85 %.
    Critical,
}

impl MemoryState {
    /// The name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The state that follows this one when `part` of the memory is in use.
    fn after(self, part: f64) -> Self {
        let above = |mark: f64, state| part >= if self >= state { mark - HYSTERESIS } else { mark };
        if above(CRITICAL, Self::Critical) {
            Self::Critical
        } else if above(WARNING, Self::Warning) {
            Self::Warning
        } else {
            Self::Normal
        }
    }

    /// The part of its lifetime that an entry gets in this state.
    fn lifetime(self) -> f64 {
        match self {
            Self::Normal => 1.0,
            Self::Warning => 0.5,
            Self::Critical => 0.25,
        }
    }
}

impl fmt::Display for MemoryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One memory: L1, or a node of L2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Memory {
    /// `l1` or `l2`.
    pub tier: &'static str,
    /// The node's address; `process` for L1.
    pub node: String,
}

/// How full one memory is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryUse {
    /// The tier and node.
    #[serde(flatten)]
    pub memory: Memory,
    /// Bytes in use.
    pub used_bytes: u64,
    /// The memory limit in bytes. `None`: no limit is set, so the state is always normal.
    pub limit_bytes: Option<u64>,
    /// How full it is.
    pub state: MemoryState,
    /// The values that a node of L2 reports.
    #[serde(skip)]
    pub reported: Option<NodeMemory>,
}

/// Watches the memory of the tiers.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    seen: Mutex<BTreeMap<Memory, MemoryUse>>,
    /// Polls of L2 in a row that failed.
    unanswered: AtomicU32,
    /// The state of the fullest node of L2, which every fill reads: a [`MemoryState`] as a number,
    /// or `UNKNOWN`.
    l2: AtomicU8,
}

/// No node of L2 has reported yet. Lifetimes are as in the normal state.
const UNKNOWN: u8 = 3;
/// After this many failed polls in a row, the last values of L2 are dropped.
const MAX_UNANSWERED_POLLS: u32 = 3;

impl Pressure {
    /// A watch without any values yet.
    pub(crate) fn new() -> Self {
        Self { l2: AtomicU8::new(UNKNOWN), ..Self::default() }
    }

    /// Polls the tiers until the task is stopped.
    pub(crate) async fn run(&self, l1: &L1, capacity: u64, l2: Option<&GuardedL2>) {
        loop {
            if capacity > 0 {
                let process = Memory { tier: "l1", node: "process".to_owned() };
                self.note(process, l1.size().0, Some(capacity), None);
            }
            if let Some(l2) = l2 {
                self.poll(l2).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Polls L2.
    pub(crate) async fn poll(&self, l2: &GuardedL2) {
        let Ok(nodes) = l2.memory().await else {
            if self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 == MAX_UNANSWERED_POLLS {
                tracing::warn!("L2 does not report its memory: there will be no warning before it is full");
                self.record_answer(Vec::new());
            }
            return;
        };
        self.unanswered.store(0, Ordering::Relaxed);
        self.record_answer(nodes);
    }

    /// Stores the values of the nodes of L2 and drops those of all other nodes. A node that was
    /// demoted or removed must not shorten lifetimes for ever.
    fn record_answer(&self, nodes: Vec<NodeMemory>) {
        let mut seen = self.lock();
        seen.retain(|memory, _| memory.tier != "l2" || nodes.iter().any(|node| node.address == memory.node));
        self.note_fullest(&seen);
        drop(seen);
        for node in nodes {
            let memory = Memory { tier: "l2", node: node.address.clone() };
            self.note(memory, node.used_bytes, node.limit_bytes, Some(node));
        }
    }

    fn note(&self, memory: Memory, used: u64, limit: Option<u64>, reported: Option<NodeMemory>) {
        let mut seen = self.lock();
        let before = seen.get(&memory);
        let old = before.map(|before| before.state).unwrap_or_default();
        let part = limit.map_or(0.0, |limit| used as f64 / limit.max(1) as f64);
        let state = old.after(part);
        let Memory { tier, node } = &memory;
        if before.is_none() {
            warn_on_unsafe_config(node, reported.as_ref());
        }
        if state != old {
            let percent = (100.0 * part) as u64;
            match (*tier, state) {
                // L1 evicts by itself, so it is full in normal operation.
                ("l1", _) => tracing::debug!(percent, %state, "L1 memory is at {percent} %"),
                (_, MemoryState::Normal) => tracing::info!(node, percent, %state, "L2 memory is at {percent} %"),
                _ => {
                    tracing::warn!(node, percent, %state, "L2 memory is at {percent} % (warning from 70 %, critical from 85 %)")
                }
            }
        }
        let known = MemoryUse { memory: memory.clone(), used_bytes: used, limit_bytes: limit, state, reported };
        seen.insert(memory, known);
        self.note_fullest(&seen);
    }

    fn note_fullest(&self, seen: &BTreeMap<Memory, MemoryUse>) {
        let fullest = seen.iter().filter(|(memory, _)| memory.tier == "l2").map(|(_, known)| known.state).max();
        self.l2.store(fullest.map_or(UNKNOWN, |state| state as u8), Ordering::Relaxed);
    }

    /// The last values of all tiers and nodes.
    pub(crate) fn seen(&self) -> Vec<MemoryUse> {
        self.lock().values().cloned().collect()
    }

    /// The state of the fullest node of L2. `None` if it is not known.
    pub(crate) fn l2(&self) -> Option<MemoryState> {
        let states = [MemoryState::Normal, MemoryState::Warning, MemoryState::Critical];
        states.get(usize::from(self.l2.load(Ordering::Relaxed))).copied()
    }

    /// A lifetime in L2, shortened according to the memory pressure.
    pub(crate) fn lifetime(&self, requested: Duration) -> Duration {
        requested.mul_f64(self.l2().unwrap_or_default().lifetime())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Memory, MemoryUse>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Warns of settings under which a node refuses writes or fills the machine's memory.
fn warn_on_unsafe_config(node: &str, reported: Option<&NodeMemory>) {
    let Some(reported) = reported else { return };
    if reported.limit_bytes.is_none() {
        tracing::warn!(
            node,
            "this node of L2 has no memory limit (maxmemory): there will be no warning before the machine's memory is full"
        );
    }
    if !reported.evicts() {
        tracing::warn!(
            node,
            policy = reported.policy,
            "this node of L2 rejects writes when its memory is full (maxmemory-policy)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_begins_at_its_mark_and_ends_five_points_below() {
        use MemoryState::{Critical, Normal, Warning};
        let cases = [
            (Normal, 0.69, Normal),
            (Normal, 0.70, Warning),
            (Normal, 0.85, Critical),
            (Warning, 0.66, Warning),
            (Warning, 0.64, Normal),
            (Warning, 0.84, Warning),
            (Warning, 0.85, Critical),
            (Critical, 0.81, Critical),
            (Critical, 0.79, Warning),
            (Critical, 0.66, Warning),
            (Critical, 0.64, Normal),
            (Normal, 1.2, Critical),
        ];
        for (before, part, after) in cases {
            assert_eq!(before.after(part), after, "{before} at {part}");
        }
    }

    #[test]
    fn the_fullest_node_of_l2_shortens_lifetimes_and_l1_does_not() {
        let pressure = Pressure::new();
        assert_eq!(pressure.l2(), None);
        let memory = |tier, node: &str| Memory { tier, node: node.to_owned() };
        pressure.note(memory("l1", "process"), 99, Some(100), None);
        assert_eq!(pressure.lifetime(Duration::from_secs(8)), Duration::from_secs(8));
        pressure.note(memory("l2", "a"), 90, Some(100), None);
        pressure.note(memory("l2", "b"), 10, Some(100), None);
        assert_eq!(pressure.l2(), Some(MemoryState::Critical));
        assert_eq!(pressure.lifetime(Duration::from_secs(8)), Duration::from_secs(2));
        pressure.note(memory("l2", "a"), 10, None, None);
        assert_eq!(pressure.l2(), Some(MemoryState::Normal), "without a limit nothing is full");
    }

    #[test]
    fn a_node_that_is_gone_shortens_nothing() {
        let pressure = Pressure::new();
        let node = |address: &str, used_bytes| NodeMemory {
            address: address.to_owned(),
            used_bytes,
            limit_bytes: Some(100),
            policy: "allkeys-lfu".to_owned(),
            evicted: 0,
            fragmentation: 1.0,
        };
        pressure.record_answer(vec![node("a", 90), node("b", 10)]);
        assert_eq!(pressure.l2(), Some(MemoryState::Critical));
        pressure.record_answer(vec![node("b", 10), node("c", 10)]);
        assert_eq!(pressure.l2(), Some(MemoryState::Normal));
        assert!(pressure.seen().iter().all(|known| known.memory.node != "a"));
        pressure.record_answer(Vec::new());
        assert_eq!(pressure.l2(), None);
    }
}
