//! The history of a run: every request with its times and its answer, and every state that each row
//! ever had.
//!
//! All times are microseconds of the driver's monotonic clock since the run began. The history is
//! plain data. The driver records it, and the rules read it.

use std::collections::HashMap;

use serde::Serialize;

/// A moment of the driver's clock, in microseconds since the run began.
pub type Micros = u64;

/// A row whose states are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Key {
    Product(i64),
    Order(i64),
}

/// A list that rows belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum List {
    /// All products of a category, by id.
    Category(String),
    /// The newest orders of a customer, newest first.
    Customer(i64),
}

/// One representation of a row: its version and a digest of its body. The digest leaves out the
/// view count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sight {
    pub version: i64,
    pub digest: u64,
}

/// One committed state of a row. States are stored in the order in which they were committed.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    pub version: i64,
    /// `None`: the row does not exist in this state, and readers must get an absence.
    pub digest: Option<u64>,
    /// The list that the row belongs to in this state.
    pub member: Option<List>,
    /// The transaction that committed it. 0 means that the state existed before the run.
    pub xid: u64,
    /// A moment before its commit: the database's time, converted to the driver's clock.
    pub made: Micros,
}

impl State {
    /// The state of a row that does not exist yet.
    pub fn absent() -> Self {
        Self { version: 0, digest: None, member: None, xid: 0, made: 0 }
    }
}

/// The states of every row that the run changed.
pub type Audit = HashMap<Key, Vec<State>>;

/// The states that an acknowledged write has made.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Ack {
    /// This version of this row.
    Version(Key, i64),
    /// All changes of the transaction that made this version of this row.
    TransactionOf(Key, i64),
    /// All changes of this transaction.
    Transaction(u64),
}

/// The answer of the service.
#[derive(Clone, Debug, Serialize)]
pub enum Told {
    /// Values by key. `None` means that the row does not exist.
    Values(Vec<(Key, Option<Sight>)>),
    /// A page. `cut` means that the page is full, so that more rows may follow.
    Page { list: List, items: Vec<(Key, Sight)>, cut: bool },
    /// The write is committed.
    Written(Ack),
    /// A client error (4xx). Nothing was written.
    Refused,
    /// A 503. The outcome of a write is unknown.
    Unavailable,
    /// No answer. The outcome of a write is unknown.
    Lost,
    /// An answer that is never permitted.
    VerifyError(String),
}

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub client: u16,
    /// The instance that received the request. `None` means that the client asked Postgres
    /// directly.
    pub instance: Option<u8>,
    /// The number of process starts of the instance until then.
    pub process_run: u32,
    pub verb: &'static str,
    pub invoked: Micros,
    pub completed: Micros,
    pub status: u16,
    /// The source of the answer, from `Cache-Status`.
    pub source: &'static str,
    pub told: Told,
    /// The record whose token the request carried.
    pub token_of: Option<usize>,
    /// Whether the write was acknowledged for the whole fleet.
    pub fleet: bool,
}

impl Record {
    /// Whether the answer is flagged as stale.
    pub fn is_flagged(&self) -> bool {
        self.source == "stale"
    }
}

/// The complete history of a run.
pub struct History {
    pub audit: Audit,
    pub records: Vec<Record>,
    /// D: the longest time for which another instance may serve the version before a write.
    pub max_staleness: Micros,
}
