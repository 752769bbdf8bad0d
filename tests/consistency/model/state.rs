//! What the model's world consists of. Small numbers everywhere: a state is copied and hashed millions of times.

/// A moment by the one clock of the model.
pub type Tick = u8;
/// A state of the data. Every write makes one that never was: the higher is the newer.
pub type Data = u8;
/// A number in the ledger; after a promotion that lost a commit it is given a second time, for other data.
pub type Number = u8;
/// A lease of L2; 0: none.
pub type Token = u8;

/// Later than any moment.
pub const NEVER: Tick = Tick::MAX;
/// How many states of the data a run may see.
pub const MOST_DATA: usize = 4;
/// How many epochs of the database a run may see.
pub const EPOCHS: usize = 2;
/// How many instances there are.
pub const INSTANCES: usize = 2;

/// A cached answer: the data, the number it was read at, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub data: Data,
    pub number: Number,
    pub read_at: Tick,
    /// The epoch that the reading instance was in.
    pub epoch: u8,
}

/// Data that a request must not be given any more, one bit each, as they stood when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owed {
    /// Older than what this instance has acknowledged.
    pub own: u8,
    /// Replaced more than D ago.
    pub fleet: u8,
    /// Older than what a writer that waited has acknowledged.
    pub waited: u8,
}

/// Postgres.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    pub data: Data,
    pub number: Number,
    pub epoch: u8,
    /// What a promotion that loses the last commit goes back to.
    pub before: Data,
    /// When each state of the data was replaced.
    pub replaced: [Tick; MOST_DATA],
    pub newest: Data,
    /// Data that a promotion has lost, one bit each.
    pub lost: u8,
    pub checkpoint: Option<Checkpoint>,
}

/// A snapshot left for instances that start later.
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
    /// For the property only: the highest invalidation that has arrived here.
    pub told: Number,
}

/// The load that others join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flight {
    #[default]
    None,
    /// L2 has answered with a value; the answer is on its way.
    Tagged { entry: Entry, refusals: u8 },
    /// The database is to be asked.
    Loading { token: Token, epoch: u8 },
    /// Only where a rule is broken: the data are read, their number isn't yet.
    HalfRead { data: Data, read_at: Tick, token: Token, epoch: u8 },
    /// The database has answered; the answer is on its way.
    Loaded { entry: Entry, token: Token },
}

/// A write of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writing {
    #[default]
    None,
    /// Only where a rule is broken: committed without its number.
    Unnumbered { data: Data },
    /// Committed; the instance doesn't know yet. `data` is 0 when the commit was lost since.
    Committed { data: Data, number: Number },
    /// Everything is done but the reply, which waits until after this moment.
    Waiting { data: Data, until: Tick },
    /// A write that finds done what it was to do; the numbers it has read are on their way.
    Settling { data: Data, number: Number },
    /// Only where a rule is broken: acknowledged before the floor was raised.
    Hasty { number: Number },
}

/// An instance that begins to follow the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot {
    pub epoch: u8,
    /// The number in the first poll's snapshot.
    pub first: Number,
    pub checkpoint: Option<Checkpoint>,
    /// A moment after the first poll.
    pub after: Tick,
}

/// A poll that the database has answered; the answer is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Poll {
    pub sent: Tick,
    pub number: Number,
    pub epoch: u8,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// The epoch it is in; 0: none yet.
    pub epoch: u8,
    /// Whether it knows where it stands in the ledger.
    pub following: bool,
    pub last_poll_sent_at: Option<Tick>,
    /// The number in the snapshot of its last poll.
    pub seen: Number,
    pub floor: Number,
    pub floor_at: Tick,
    /// What was read before is refused.
    pub min_read_time: Tick,
    pub l1: Option<Entry>,
    pub flight: Flight,
    pub leader: Option<Owed>,
    pub joiner: Option<Owed>,
    /// A load that nobody joins, its answer on its way.
    pub apart: Option<Entry>,
    pub poll: Option<Poll>,
    pub boot: Option<Boot>,
    pub writing: Writing,
    /// The newest data it has acknowledged, in whatever process.
    pub acknowledged: Data,
}

/// What is on its way to L2, and may arrive late or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    Fill {
        entry: Entry,
        token: Token,
    },
    /// A value that was loaded without a lease: it takes one when it arrives, if it can.
    Unleased {
        entry: Entry,
    },
    Invalidate {
        number: Number,
        epoch: u8,
    },
}

/// How much of everything may still happen.
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
    /// Writes that find done what they were to do.
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

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Tick,
    pub database: Database,
    /// L2, by epoch: the epoch is part of the key.
    pub l2: [Slot; EPOCHS],
    pub saved: Option<[Slot; EPOCHS]>,
    pub instances: [Instance; INSTANCES],
    pub network: Vec<Message>,
    /// The newest data that a writer acknowledged after waiting.
    pub waited: Data,
    pub left: Budget,
    /// Promises broken so far, one bit each.
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
    /// Everybody is up, nothing is cached, nothing was written.
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

    /// Two worlds that differ only in the order of their instances or messages are the same one.
    pub fn settle(&mut self) {
        self.instances.sort_unstable();
        self.network.sort_unstable();
        self.network.dedup();
    }

    /// A token that nobody knows.
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
