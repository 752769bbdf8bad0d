//! The state of the model. All numbers are small, because a state is copied and hashed millions of
//! times.

/// A moment of the model's only clock.
pub type Tick = u8;
/// A state of the data. Every write makes a new one, and a higher value is newer.
pub type Data = u8;
/// A version in the ledger. After a promotion that lost a commit, the same version is used again
/// for other data.
pub type Number = u8;
/// A lease of L2. 0 means none.
pub type Token = u8;

/// A moment after all others.
pub const NEVER: Tick = Tick::MAX;
/// The maximum of data states in a run.
pub const MOST_DATA: usize = 4;
/// The maximum of database epochs in a run.
pub const EPOCHS: usize = 2;
/// The number of instances.
pub const INSTANCES: usize = 2;

/// A cached answer: the data, the version at which it was read, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub data: Data,
    pub number: Number,
    pub read_at: Tick,
    /// The epoch of the instance that read it.
    pub epoch: u8,
}

/// The data that a request must not get, one bit each, as of its arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owed {
    /// Data older than the newest write that this instance has acknowledged.
    pub own: u8,
    /// Data that were replaced more than D ago.
    pub fleet: u8,
    /// Data older than the newest write that a waiting writer has acknowledged.
    pub waited: u8,
}

/// The state of Postgres.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    pub data: Data,
    pub number: Number,
    pub epoch: u8,
    /// The data to which a promotion returns when it loses the last commit.
    pub before: Data,
    /// When each state of the data was replaced.
    pub replaced: [Tick; MOST_DATA],
    pub newest: Data,
    /// Data that a promotion has lost, one bit each.
    pub lost: u8,
    pub checkpoint: Option<Checkpoint>,
}

/// A stored snapshot for instances that start later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    pub number: Number,
    /// A moment after the snapshot.
    pub taken_at: Tick,
}

/// One key of L2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    pub value: Option<Entry>,
    pub floor: Number,
    pub lease: Token,
    /// Used only by the property P3: the highest invalidation that has arrived here.
    pub told: Number,
}

/// The load of a single flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flight {
    #[default]
    None,
    /// L2 has answered with a value. The answer is still in flight.
    Tagged { entry: Entry, refusals: u8 },
    /// The next step calls the database.
    Loading { token: Token, epoch: u8 },
    /// Occurs only where a rule is left out: the data are read, and their version is not.
    HalfRead { data: Data, read_at: Tick, token: Token, epoch: u8 },
    /// The database has answered. The answer is still in flight.
    Loaded { entry: Entry, token: Token },
}

/// A write of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writing {
    #[default]
    None,
    /// Occurs only where a rule is left out: committed without a new version.
    Unnumbered { data: Data },
    /// Committed, but the instance does not know yet. `data` is 0 if the commit was lost since.
    Committed { data: Data, number: Number },
    /// Everything is done except the reply, which waits until after this moment.
    Waiting { data: Data, until: Tick },
    /// A write that found its change already made. The version that it read is still in flight.
    Settling { data: Data, number: Number },
    /// Occurs only where a rule is left out: acknowledged before the floor was raised.
    Hasty { number: Number },
}

/// The start of an instance, between its first and its second poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot {
    pub epoch: u8,
    /// The version in the snapshot of the first poll.
    pub first: Number,
    pub checkpoint: Option<Checkpoint>,
    /// A moment after the first poll.
    pub after: Tick,
}

/// A poll that the database has answered. The answer is still in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Poll {
    pub sent: Tick,
    pub number: Number,
    pub epoch: u8,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// The epoch of the instance. 0 means none yet.
    pub epoch: u8,
    /// Whether the instance has a cursor in the ledger.
    pub following: bool,
    pub last_poll_sent_at: Option<Tick>,
    /// The version in the snapshot of its last poll.
    pub seen: Number,
    pub floor: Number,
    pub floor_at: Tick,
    /// The instance refuses values that were read before this time.
    pub min_read_time: Tick,
    pub l1: Option<Entry>,
    pub flight: Flight,
    pub leader: Option<Owed>,
    pub joiner: Option<Owed>,
    /// A load outside of single flight whose answer is still in flight.
    pub apart: Option<Entry>,
    pub poll: Option<Poll>,
    pub boot: Option<Boot>,
    pub writing: Writing,
    /// The newest data that the instance has acknowledged, in any of its processes.
    pub acknowledged: Data,
}

/// A message to L2, which may arrive late or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    Fill {
        entry: Entry,
        token: Token,
    },
    /// A value that was loaded without a lease. It takes a lease when it arrives, if possible.
    Unleased {
        entry: Entry,
    },
    Invalidate {
        number: Number,
        epoch: u8,
    },
}

/// How many events of each kind may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub ticks: u8,
    pub writes: u8,
    pub reads: u8,
    pub refreshes: u8,
    pub evictions: u8,
    pub saves: u8,
    pub rollbacks: u8,
    pub crashes: u8,
    pub promotions: u8,
    pub checkpoints: u8,
    pub overflows: u8,
    /// Reads that get no answer from L2.
    pub silences: u8,
    /// Writes whose change is already there.
    pub repeats: u8,
}

impl Budget {
    pub const NOTHING: Self = Self {
        ticks: 0,
        writes: 0,
        reads: 0,
        refreshes: 0,
        evictions: 0,
        saves: 0,
        rollbacks: 0,
        crashes: 0,
        promotions: 0,
        checkpoints: 0,
        overflows: 0,
        silences: 0,
        repeats: 0,
    };
}

/// The state of the whole system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Tick,
    pub database: Database,
    /// L2, by epoch. The epoch is part of the key.
    pub l2: [Slot; EPOCHS],
    pub saved: Option<[Slot; EPOCHS]>,
    pub instances: [Instance; INSTANCES],
    pub network: Vec<Message>,
    /// The newest data that a writer acknowledged after waiting.
    pub waited: Data,
    pub left: Budget,
    /// The promises broken so far, one bit each.
    pub broken: u8,
}

impl Instance {
    /// A process that has just started.
    pub fn started(acknowledged: Data) -> Self {
        Self {
            epoch: 0,
            following: false,
            last_poll_sent_at: None,
            seen: 0,
            floor: 0,
            floor_at: 0,
            min_read_time: NEVER,
            l1: None,
            flight: Flight::None,
            leader: None,
            joiner: None,
            apart: None,
            poll: None,
            boot: None,
            writing: Writing::None,
            acknowledged,
        }
    }

    /// A process that follows the ledger and has just polled.
    pub fn settled() -> Self {
        Self { epoch: 1, following: true, last_poll_sent_at: Some(0), min_read_time: 0, ..Self::started(0) }
    }
}

impl World {
    /// A state in which everything runs, nothing is cached and nothing was written.
    pub fn new(left: Budget) -> Self {
        let database = Database {
            data: 0,
            number: 0,
            epoch: 1,
            before: 0,
            replaced: [NEVER; MOST_DATA],
            newest: 0,
            lost: 0,
            checkpoint: None,
        };
        Self {
            now: 0,
            database,
            l2: Default::default(),
            saved: None,
            instances: [Instance::settled(), Instance::settled()],
            network: Vec::new(),
            waited: 0,
            left,
            broken: 0,
        }
    }

    /// Sorts instances and messages, so that states that differ only in their order become equal.
    pub fn settle(&mut self) {
        self.instances.sort_unstable();
        self.network.sort_unstable();
        self.network.dedup();
    }

    /// A token that is not in use.
    pub fn fresh_token(&self) -> Token {
        let flights = self.instances.iter().map(|instance| match instance.flight {
            Flight::Loading { token, .. } | Flight::HalfRead { token, .. } | Flight::Loaded { token, .. } => token,
            _ => 0,
        });
        let messages = self.network.iter().map(|message| match message {
            Message::Fill { token, .. } => *token,
            _ => 0,
        });
        let slots = self.l2.iter().chain(self.saved.iter().flatten()).map(|slot| slot.lease);
        let used: u64 = flights.chain(messages).chain(slots).fold(1, |used, token| used | 1 << token);
        used.trailing_ones() as Token
    }
}
