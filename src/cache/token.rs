//! The consistency token: a moment by the database's clock that a client carries from one answer to the next request, on whatever
//! instance. A request that brings one is never answered older than the answer that gave it: the instance serves from its tiers
//! only once its floors cover everything that was committed before that moment, and else loads.
//!
//! One moment covers all names, so a token is as short for a list as for one value, and what a client has read or written of one
//! thing also holds for every other. Not a secret and not a proof: a forged token costs a load and reveals nothing.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{Cache, entry::DbTime, fence::Era};

/// A token of the future is not one of ours; the clocks of two looks differ by less than this.
const AHEAD: Duration = Duration::from_secs(1);

/// A moment in one life of the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsistencyToken {
    era: Arc<str>,
    moment: DbTime,
}

impl Cache {
    /// The token of everything that this instance has acknowledged so far.
    pub fn token_now(&self) -> Option<ConsistencyToken> {
        ConsistencyToken::new(self.inner.fence.era(), self.inner.fence.db_now())
    }

    /// Waits until no instance serves anything older than what this instance has acknowledged so far: after D, every other
    /// instance has looked at the ledger since, or doesn't use its tiers. D must be the same in the whole fleet.
    pub async fn await_fleet(&self) {
        tokio::time::sleep(self.inner.fence.trust()).await;
    }

    /// Waits until the floors cover everything the token stands for; `false`: they don't in time, so the tiers may not be used.
    pub async fn catch_up(&self, token: &ConsistencyToken) -> bool {
        let fence = &self.inner.fence;
        let possible = token.era == fence.era().name && token.moment.0 <= fence.db_now().after(AHEAD).0;
        possible && fence.wait_for(token.moment).await
    }
}

impl ConsistencyToken {
    /// The token of an answer that was read by `moment`; `None` before the ledger was first looked at.
    pub(super) fn new(era: Era, moment: DbTime) -> Option<Self> {
        (era.number > 0).then_some(Self { era: era.name, moment })
    }

    /// The life of the database it belongs to: letters and digits.
    pub fn era(&self) -> &str {
        &self.era
    }

    /// The moment it stands for.
    pub fn moment(&self) -> DbTime {
        self.moment
    }

    /// `other`, if it stands for more in the same life of the database.
    pub fn overtaken_by(&self, other: Self) -> Option<Self> {
        (other.era == self.era && other.moment > self.moment).then_some(other)
    }
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.era, self.moment.0)
    }
}

impl FromStr for ConsistencyToken {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (era, moment) = text.split_once('-').ok_or(())?;
        let plain =
            |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain(era, 12) || !plain(moment, 19) {
            return Err(());
        }
        Ok(Self { era: era.into(), moment: DbTime(moment.parse().map_err(|_| ())?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_other_texts_are_refused() {
        let token = ConsistencyToken { era: "0123456789ab".into(), moment: DbTime(1_795_000_000_000_000) };
        assert_eq!(token.to_string().parse(), Ok(token));
        for wrong in
            ["", "-", "x", "era-", "-5", "era--5", "era-5x", "é-5", "0123456789abc-5", "era-99999999999999999999"]
        {
            assert_eq!(wrong.parse::<ConsistencyToken>(), Err(()), "{wrong}");
        }
    }
}
