//! The consistency token: a moment by the database's clock that a client carries from one answer to the next request, on whatever
//! instance. A request that brings one is never answered older than the answer that gave it: the instance serves from its tiers
//! only once its floors cover everything that was committed before that moment, and else loads.
//!
//! One moment covers all names, so a token is as short for a list as for one value, and what a client has read or written of one
//! thing also holds for every other. Not a secret and not a proof: a forged token reveals nothing, and costs what the caller of
//! [`Cache::catch_up`] grants.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{Cache, entry::DbTime, freshness::Epoch};

/// How far the pictures that two instances have of the database's clock can lie apart: by as much as a poll of the ledger may
/// take, and more. A token from farther in the future was not given by any instance.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(30);

/// A moment in one epoch of the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsistencyToken {
    epoch: Arc<str>,
    moment: DbTime,
}

/// How far an instance has come with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// The floors cover what it stands for: the tiers may be used.
    Covered,
    /// They don't cover it in time, because polls of the ledger are late: only a load keeps the promise.
    Late,
    /// It belongs to another epoch of the database, or to none. What it stands for can't be compared with anything here.
    OtherEpoch,
    /// It names a moment that lies so far ahead that no instance has given it.
    Impossible,
}

impl Cache {
    /// The token of everything that this instance has acknowledged so far.
    pub fn token_now(&self) -> Option<ConsistencyToken> {
        ConsistencyToken::new(self.inner.freshness.epoch(), self.inner.freshness.db_now())
    }

    /// Waits until no instance serves anything older than what this instance has acknowledged so far: after D, every other
    /// instance has polled the ledger since, or doesn't use its tiers. D must be the same in the whole fleet.
    pub async fn await_fleet(&self) {
        tokio::time::sleep(self.inner.freshness.max_staleness()).await;
    }

    /// Waits for a moment until the floors cover everything the token stands for. Costs no query: one poll of the ledger serves
    /// all who wait.
    pub async fn catch_up(&self, token: &ConsistencyToken) -> CatchUp {
        let freshness = &self.inner.freshness;
        let now = freshness.db_now();
        if token.epoch != freshness.epoch().name {
            // The other epoch may have begun a moment ago; the next poll tells.
            freshness.wait_for(now).await;
            if token.epoch != freshness.epoch().name {
                return CatchUp::OtherEpoch;
            }
        }
        if token.moment > now.after(MAX_CLOCK_DIFFERENCE) {
            return CatchUp::Impossible;
        }
        // What a token stands for was committed before the request that brings it was sent, whatever moment it names.
        if freshness.wait_for(token.moment.min(now)).await { CatchUp::Covered } else { CatchUp::Late }
    }

    /// [`Cache::catch_up`] for a token that was late, with more patience: for as long as a poll proves anything.
    pub async fn catch_up_later(&self, token: &ConsistencyToken) -> bool {
        let freshness = &self.inner.freshness;
        token.epoch == freshness.epoch().name
            && freshness.wait_for_within(token.moment.min(freshness.db_now()), freshness.max_staleness()).await
    }

    /// Whether the moment of a token has come. One that lies ahead was not given by this instance.
    pub fn has_reached(&self, token: &ConsistencyToken) -> bool {
        token.moment <= self.inner.freshness.db_now()
    }
}

impl ConsistencyToken {
    /// The token of an answer that was read by `moment`; `None` before the ledger was first polled.
    pub(super) fn new(epoch: Epoch, moment: DbTime) -> Option<Self> {
        (epoch.number > 0).then_some(Self { epoch: epoch.name, moment })
    }

    /// The epoch of the database it belongs to: letters and digits.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The moment it stands for.
    pub fn moment(&self) -> DbTime {
        self.moment
    }

    /// `other`, if it stands for more in the same epoch of the database.
    pub fn overtaken_by(&self, other: Self) -> Option<Self> {
        (other.epoch == self.epoch && other.moment > self.moment).then_some(other)
    }
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.moment.0)
    }
}

impl FromStr for ConsistencyToken {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, moment) = text.split_once('-').ok_or(())?;
        let plain =
            |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain(epoch, 12) || !plain(moment, 19) {
            return Err(());
        }
        Ok(Self { epoch: epoch.into(), moment: DbTime(moment.parse().map_err(|_| ())?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_other_texts_are_refused() {
        let token = ConsistencyToken { epoch: "0123456789ab".into(), moment: DbTime(1_795_000_000_000_000) };
        assert_eq!(token.to_string().parse(), Ok(token));
        for wrong in [
            "",
            "-",
            "x",
            "epoch-",
            "-5",
            "epoch--5",
            "epoch-5x",
            "é-5",
            "0123456789abc-5",
            "epoch-99999999999999999999",
        ] {
            assert_eq!(wrong.parse::<ConsistencyToken>(), Err(()), "{wrong}");
        }
    }
}
