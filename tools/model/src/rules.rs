//! The rules of the protocol. A run may leave out any of them.

/// A rule that a run can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// L1's answers are compared with the floors.
    FloorOnL1,
    /// L2's answers are compared with the floors.
    FloorOnL2,
    /// Answers have a maximum age.
    Age,
    /// The tiers are used only while the last poll is younger than D.
    MaxStaleness,
    /// The staleness bound begins when the poll is sent, not when its answer arrives.
    LeaseFromSending,
    /// An instance that starts raises floors for earlier changes, or refuses values that were read
    /// earlier.
    BootWindow,
    /// The writer raises its floors before its reply.
    FloorBeforeReply,
    /// A writer whose change is already there raises its floor to the version that it finds.
    FloorWhenSettled,
    /// A follower checks the result of a joined load before it is served.
    JoinJudged,
    /// Floors are kept for as long as an older entry may be served.
    FloorsKept,
    /// If there are too many floors, the instance raises its minimum read time before it drops
    /// them.
    CommonFloor,
    /// One statement reads data and version.
    LabelsWithData,
    /// The version rises in the transaction of the write.
    BumpInTransaction,
    /// Entries of another epoch are out of reach. An instance enters another epoch like a starting
    /// one.
    Epochs,
    /// A writer that promises the whole fleet waits for longer than D.
    Wait,
    /// L2 accepts a fill only from the holder of its lease.
    FillNeedsLease,
    /// L2 refuses a fill that is older than its entry or its floor.
    FillRefusesOlder,
    /// Writers send invalidations to L2.
    InvalidateL2,
}
