//! What a run leaves behind: every request with its times and what it was told, and every state that each row ever had.
//!
//! All times are microseconds of the driver's monotonic clock since the run began. Plain data, made by the driver, read by the rules.

use std::collections::HashMap;

use serde::Serialize;

/// A moment of the driver's clock, in microseconds since the run began.
pub type Micros = u64;

/// A thing that has states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Key {
    Product(i64),
    Order(i64),
}

/// A list that things belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum List {
    /// All products of a category, by id.
    Category(String),
    /// The newest orders of a customer, newest first.
    Customer(i64),
}

/// One representation of a thing: its version and a digest of its body, views left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sight {
    pub version: i64,
    pub digest: u64,
}

/// One committed state of a row, in the order in which the row went through them.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    pub version: i64,
    /// `None`: readers must be told that there is no such thing.
    pub digest: Option<u64>,
    /// The list that it belongs to in this state.
    pub member: Option<List>,
    /// The transaction that made it; 0: it was there before the run.
    pub xid: u64,
    /// A moment before its commit, by the database's clock turned into the driver's.
    pub made: Micros,
}

impl State {
    /// Of a thing that has not been made yet.
    pub fn absent() -> Self {
        Self { version: 0, digest: None, member: None, xid: 0, made: 0 }
    }
}

/// The states of every row that the run touched.
pub type Audit = HashMap<Key, Vec<State>>;

/// Which states an acknowledged write has made.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Ack {
    /// This version of this thing.
    Version(Key, i64),
    /// All that the transaction did which made this version of this thing.
    TransactionOf(Key, i64),
    /// All that this transaction did.
    Transaction(u64),
}

/// What the service said.
#[derive(Clone, Debug, Serialize)]
pub enum Told {
    /// Values by key; `None`: there is no such thing.
    Values(Vec<(Key, Option<Sight>)>),
    /// A page. `cut`: as many as were asked for, so further ones may be missing.
    Page { list: List, items: Vec<(Key, Sight)>, cut: bool },
    /// The write is done.
    Written(Ack),
    /// No, with a reason that is the client's (4xx), and nothing was done.
    Refused,
    /// Not now (503): a write may have been done or not.
    Unavailable,
    /// No answer: a write may have been done or not.
    Lost,
    /// An answer that must not be.
    VerifyError(String),
}

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub client: u16,
    /// Who was asked; `None`: Postgres directly.
    pub instance: Option<u8>,
    /// Counts the process runs of the instance.
    pub process_run: u32,
    pub verb: &'static str,
    pub invoked: Micros,
    pub completed: Micros,
    pub status: u16,
    /// Where the answer came from, from `Cache-Status`.
    pub source: &'static str,
    pub told: Told,
    /// The record whose token was sent along.
    pub token_of: Option<usize>,
    /// Whether the write was acknowledged for the whole fleet.
    pub fleet: bool,
}

impl Record {
    /// Whether the answer says of itself that it may be stale.
    pub fn is_flagged(&self) -> bool {
        self.source == "stale"
    }
}

/// All of it.
pub struct History {
    pub audit: Audit,
    pub records: Vec<Record>,
    /// D: how long another instance may serve what a write made old.
    pub max_staleness: Micros,
}
