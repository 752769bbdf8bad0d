//! The rules of the protocol, each of which a run may leave out.

/// A rule that a run leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// L1's answers are compared with the floors.
    FloorOnL1,
    /// L2's answers are compared with the floors.
    FloorOnL2,
    /// Answers have a maximal age.
    Age,
    /// The tiers are used only while the last poll is younger than D.
    MaxStaleness,
    /// The staleness bound begins when the poll is sent, not when its answer arrives.
    LeaseFromSending,
    /// An instance that starts raises floors for what changed before, or refuses what was read before.
    BootWindow,
    /// The writer's floors are raised before its reply.
    FloorBeforeReply,
    /// A writer that finds its work done raises its floor to the number it finds.
    FloorWhenSettled,
    /// The result of a joined load is judged when it is served.
    JoinJudged,
    /// Floors are kept for as long as an older entry may be served.
    FloorsKept,
    /// When floors are too many, one common floor is raised before they are dropped.
    CommonFloor,
    /// Data and number are read in one statement.
    LabelsWithData,
    /// The number rises in the transaction of the write.
    BumpInTransaction,
    /// Entries of another epoch are out of reach, and another epoch begins with a boot.
    Epochs,
    /// A writer that promises the whole fleet waits for longer than D.
    Wait,
    /// L2 takes a fill only from the holder of its lease.
    FillNeedsLease,
    /// L2 refuses a fill that is older than what it knows.
    FillRefusesOlder,
    /// L2 is told of changes.
    InvalidateL2,
}
