//! What an item of Memcached holds, and what each verb makes of it: the protocol of `scripts/*.lua` without a server that runs it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::line::Reply;
use crate::cache::l2::{Fetched, Fill, Filled, L2Error};

/// Longest item: Memcached's limit of 1 MiB less what it keeps beside the data.
pub(super) const LONGEST: usize = (1 << 20) - 1_024;
/// A longer lifetime would be read as a date.
const LONGEST_LIFE: u64 = 30 * 24 * 3_600;

/// All that is known of one key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    floor: i64,
    state: State,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Only a floor.
    Empty,
    /// By a token, until a time in milliseconds since 1970.
    Leased(u64, Bytes),
    /// Order and payload.
    Value(i64, Bytes),
}

/// The first byte of what is written in this form.
const FORM: u8 = 1;
/// Form, floor, kind, order or end.
const HEAD: usize = 1 + 8 + 1 + 8;

impl Item {
    fn encode(&self) -> Vec<u8> {
        let (kind, number, rest) = match &self.state {
            State::Empty => (b'e', [0; 8], &[][..]),
            State::Leased(ends, token) => (b'l', ends.to_be_bytes(), token.as_ref()),
            State::Value(order, payload) => (b'v', order.to_be_bytes(), payload.as_ref()),
        };
        [&[FORM][..], &self.floor.to_be_bytes(), &[kind], &number, rest].concat()
    }

    /// `None`: it is nobody's, and may be overwritten.
    fn decode(bytes: &Bytes) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let number = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let (floor, number, rest) = (number(1)? as i64, number(10)?, bytes.slice(HEAD..));
        let state = match (head[0], head[9]) {
            (FORM, b'e') => State::Empty,
            (FORM, b'l') => State::Leased(number, rest),
            (FORM, b'v') => State::Value(number as i64, rest),
            _ => return None,
        };
        Some(Self { floor, state })
    }
}

/// What a key held when it was read.
pub(super) struct Seen {
    item: Option<Item>,
    /// `None`: there was no item.
    pub(super) cas: Option<u64>,
    /// For how many more seconds it would be kept.
    left: u64,
}

/// What is to become of an item that was read.
pub(super) enum Becomes {
    AsItIs,
    Gone,
    /// Kept for so many seconds.
    This(Item, u64),
}

impl Becomes {
    /// Adds the command to `commands`, if it takes one.
    pub(super) fn command(self, name: &str, cas: Option<u64>, commands: &mut Vec<u8>) -> bool {
        let swap = cas.map_or_else(|| "ME".to_owned(), |cas| format!("C{cas}"));
        match self {
            Self::AsItIs => return false,
            Self::Gone => commands.extend_from_slice(format!("md {name} {swap}\r\n").as_bytes()),
            Self::This(item, seconds) => {
                let item = item.encode();
                let head = format!("ms {name} {} T{} {swap}\r\n", item.len(), seconds.clamp(1, LONGEST_LIFE));
                commands.extend_from_slice(&[head.as_bytes(), &item, b"\r\n"].concat());
            }
        }
        true
    }
}

impl Seen {
    pub(super) fn from(reply: Reply) -> Result<Self, L2Error> {
        match reply {
            Reply::Nothing => Ok(Self { item: None, cas: None, left: 0 }),
            Reply::Item { cas, left, data } => {
                Ok(Self { item: data.as_ref().and_then(Item::decode), cas: Some(cas), left })
            }
            _ => Err(super::unexpected()),
        }
    }

    pub(super) fn fetch(&self, min_order: i64, token: &str, lease: Duration) -> (Fetched, Becomes) {
        let floor = self.item.as_ref().map_or(0, |item| item.floor);
        let (now, length) = (now_ms(), lease.as_millis() as u64);
        match self.item.as_ref().map(|item| &item.state) {
            Some(State::Value(order, value)) if *order >= floor.max(min_order) => {
                return (Fetched::Hit { order: *order, value: value.clone() }, Becomes::AsItIs);
            }
            // Clocks of instances differ a little; a lease that ends later than any can is not one of ours.
            Some(State::Leased(ends, holder))
                if holder != token && *ends > now && *ends <= now.saturating_add(2 * length) =>
            {
                return (Fetched::Busy(Duration::from_millis((ends - now).min(length))), Becomes::AsItIs);
            }
            _ => {}
        }
        // What was not wanted goes: a list's order may fall when a row leaves it, and then it would refuse every later fill.
        let state = State::Leased(now.saturating_add(length), Bytes::copy_from_slice(token.as_bytes()));
        // Memcached's seconds may be over at once, so the lease's own end comes first.
        let keep = lease.as_secs() + 2;
        (Fetched::Leased, Becomes::This(Item { floor, state }, keep.max(self.left)))
    }

    pub(super) fn fill(&self, fill: &Fill, token: &str) -> (Filled, Becomes) {
        let Some(Item { floor, state: State::Leased(_, holder) }) = &self.item else {
            return (Filled::LeaseLost, Becomes::AsItIs);
        };
        if holder != token {
            return (Filled::LeaseLost, Becomes::AsItIs);
        }
        let released = match *floor {
            0 => Becomes::Gone,
            floor => Becomes::This(Item { floor, state: State::Empty }, self.left),
        };
        match &fill.value {
            Some((order, _)) if order < floor => (Filled::Older, released),
            Some((order, value)) if value.len() + HEAD <= LONGEST => {
                // The value's own order is the floor from here on. Whole seconds that are over are no longer than it was told.
                let item = Item { floor: 0, state: State::Value(*order, value.clone()) };
                (Filled::Kept, Becomes::This(item, fill.lifetime.as_secs()))
            }
            _ => (Filled::Released, released),
        }
    }

    pub(super) fn invalidate(&self, order: i64) -> Becomes {
        let Some(item) = self.item.as_ref().filter(|item| item.state != State::Empty && item.floor < order) else {
            return Becomes::AsItIs;
        };
        let state = match &item.state {
            State::Value(own, _) if *own < order => State::Empty,
            state => state.clone(),
        };
        Becomes::This(Item { floor: order, state }, self.left)
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
