//! The format of an item in Memcached, and the effect of each operation on it. This is the protocol
//! of `scripts/*.lua` for a server that runs no scripts.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::connection::Reply;
use crate::tiers::l2::{Fetched, Fill, Filled, L2Error};

/// The longest item: Memcached's limit of 1 MiB minus its own overhead.
pub(super) const MAX_ITEM_BYTES: usize = (1 << 20) - 1_024;
/// The longest lifetime. Memcached reads a larger number as a date.
const MAX_LIFETIME_SECONDS: u64 = 30 * 24 * 3_600;

/// The state of one key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    floor: i64,
    state: State,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Only a floor, without value or lease.
    Empty,
    /// The lease's end, in milliseconds since 1970, and its holder's token.
    Leased(u64, Bytes),
    /// The entry version and the payload.
    Value(i64, Bytes),
}

/// The first byte of every item in this format.
const FORMAT: u8 = 1;
/// Bytes of the header: format, floor, kind, and the entry version or the lease's end.
const HEAD: usize = 1 + 8 + 1 + 8;

impl Item {
    fn encode(&self) -> Vec<u8> {
        let (kind, number, rest) = match &self.state {
            State::Empty => (b'e', [0; 8], &[][..]),
            State::Leased(ends, token) => (b'l', ends.to_be_bytes(), token.as_ref()),
            State::Value(version, payload) => (b'v', version.to_be_bytes(), payload.as_ref()),
        };
        [&[FORMAT][..], &self.floor.to_be_bytes(), &[kind], &number, rest].concat()
    }

    /// `None` if it is not an item of this cache. It may then be overwritten.
    fn decode(bytes: &Bytes) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let number = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let (floor, number, rest) = (number(1)? as i64, number(10)?, bytes.slice(HEAD..));
        let state = match (head[0], head[9]) {
            (FORMAT, b'e') => State::Empty,
            (FORMAT, b'l') => State::Leased(number, rest),
            (FORMAT, b'v') => State::Value(number as i64, rest),
            _ => return None,
        };
        Some(Self { floor, state })
    }
}

/// The state of a key when it was read.
pub(super) struct Observed {
    item: Option<Item>,
    /// `None` if there was no item.
    pub(super) cas: Option<u64>,
    /// The rest of its lifetime, in seconds.
    left: u64,
}

/// The change of an item that was read.
pub(super) enum Mutation {
    Keep,
    Delete,
    /// The new item and its lifetime in seconds.
    Store(Item, u64),
}

impl Mutation {
    /// Adds the command to `commands`, unless the item is unchanged.
    pub(super) fn command(self, name: &str, cas: Option<u64>, commands: &mut Vec<u8>) -> bool {
        let swap = cas.map_or_else(|| "ME".to_owned(), |cas| format!("C{cas}"));
        match self {
            Self::Keep => return false,
            Self::Delete => commands.extend_from_slice(format!("md {name} {swap}\r\n").as_bytes()),
            Self::Store(item, seconds) => {
                let item = item.encode();
                let head = format!("ms {name} {} T{} {swap}\r\n", item.len(), seconds.clamp(1, MAX_LIFETIME_SECONDS));
                commands.extend_from_slice(&[head.as_bytes(), &item, b"\r\n"].concat());
            }
        }
        true
    }
}

impl Observed {
    pub(super) fn from(reply: Reply) -> Result<Self, L2Error> {
        match reply {
            Reply::NotFound => Ok(Self { item: None, cas: None, left: 0 }),
            Reply::Item { cas, left, data } => {
                Ok(Self { item: data.as_ref().and_then(Item::decode), cas: Some(cas), left })
            }
            _ => Err(super::unexpected()),
        }
    }

    pub(super) fn fetch(&self, min_version: i64, token: &str, lease: Duration) -> (Fetched, Mutation) {
        let floor = self.item.as_ref().map_or(0, |item| item.floor);
        let (now, length) = (now_ms(), lease.as_millis() as u64);
        match self.item.as_ref().map(|item| &item.state) {
            Some(State::Value(version, value)) if *version >= floor.max(min_version) => {
                return (Fetched::Hit { version: *version, value: value.clone() }, Mutation::Keep);
            }
            // The instances' clocks differ a little. A lease that ends later than any valid lease
            // is ignored.
            Some(State::Leased(ends, holder))
                if holder != token && *ends > now && *ends <= now.saturating_add(2 * length) =>
            {
                return (Fetched::Busy(Duration::from_millis((ends - now).min(length))), Mutation::Keep);
            }
            _ => {}
        }
        // A value that may not be served is deleted. The version of a list may fall when a row
        // leaves it, and the value would then refuse every later fill.
        let state = State::Leased(now.saturating_add(length), Bytes::copy_from_slice(token.as_bytes()));
        // Memcached's expiry is inexact by up to a second, so the item outlives its lease.
        let keep = lease.as_secs() + 2;
        (Fetched::Leased, Mutation::Store(Item { floor, state }, keep.max(self.left)))
    }

    pub(super) fn fill(&self, fill: &Fill, token: &str) -> (Filled, Mutation) {
        let Some(Item { floor, state: State::Leased(_, holder) }) = &self.item else {
            return (Filled::LeaseLost, Mutation::Keep);
        };
        if holder != token {
            return (Filled::LeaseLost, Mutation::Keep);
        }
        let released = match *floor {
            0 => Mutation::Delete,
            floor => Mutation::Store(Item { floor, state: State::Empty }, self.left),
        };
        match &fill.value {
            Some((version, _)) if version < floor => (Filled::Older, released),
            Some((version, value)) if value.len() + HEAD <= MAX_ITEM_BYTES => {
                // From here on, the value's own version is the floor. Whole seconds are never
                // longer than the requested lifetime.
                let item = Item { floor: 0, state: State::Value(*version, value.clone()) };
                (Filled::Kept, Mutation::Store(item, fill.lifetime.as_secs()))
            }
            _ => (Filled::Released, released),
        }
    }

    pub(super) fn invalidate(&self, version: i64) -> Mutation {
        let Some(item) = self.item.as_ref().filter(|item| item.state != State::Empty && item.floor < version) else {
            return Mutation::Keep;
        };
        let state = match &item.state {
            State::Value(own, _) if *own < version => State::Empty,
            state => state.clone(),
        };
        Mutation::Store(Item { floor: version, state }, self.left)
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
