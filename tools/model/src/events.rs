//! Counts the events of a run. Without events, a model satisfies every promise and proves nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// An event that a run counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    ServedFromL1,
    ServedFromL2,
    ServedByLoad,
    ServedToJoiner,
    JoinerRefused,
    L1BelowFloor,
    L2BelowFloor,
    TooOld,
    Untrusted,
    OtherEpoch,
    L1FilledLate,
    FillKept,
    FillWithoutLease,
    FillTooOld,
    LeaseTakenOver,
    LeaseBusy,
    UnleasedFill,
    L2Told,
    Evicted,
    RolledBack,
    Crashed,
    BootByCheckpoint,
    BootByRefusal,
    LateLook,
    FloorForgotten,
    CommonFloor,
    Acknowledged,
    WaitedAndAcknowledged,
    Promoted,
    CommitLost,
}

impl Event {
    const ALL: [Self; 30] = [
        Self::ServedFromL1,
        Self::ServedFromL2,
        Self::ServedByLoad,
        Self::ServedToJoiner,
        Self::JoinerRefused,
        Self::L1BelowFloor,
        Self::L2BelowFloor,
        Self::TooOld,
        Self::Untrusted,
        Self::OtherEpoch,
        Self::L1FilledLate,
        Self::FillKept,
        Self::FillWithoutLease,
        Self::FillTooOld,
        Self::LeaseTakenOver,
        Self::LeaseBusy,
        Self::UnleasedFill,
        Self::L2Told,
        Self::Evicted,
        Self::RolledBack,
        Self::Crashed,
        Self::BootByCheckpoint,
        Self::BootByRefusal,
        Self::LateLook,
        Self::FloorForgotten,
        Self::CommonFloor,
        Self::Acknowledged,
        Self::WaitedAndAcknowledged,
        Self::Promoted,
        Self::CommitLost,
    ];
}

/// How often each event occurred, in all branches together.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<[AtomicU64; Event::ALL.len()]>);

impl Events {
    pub fn saw(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }

    /// All counts, as text.
    pub fn summary(&self) -> String {
        let all = Event::ALL.iter().map(|event| format!("{event:?} {}", self.count(*event)));
        all.collect::<Vec<_>>().join(", ")
    }
}
