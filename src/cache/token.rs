//! The consistency token: a moment by the database's clock that a client carries from one answer to the next request, on whatever
//! instance. A request that brings one is never answered older than the answer that gave it: the instance serves from its tiers
//! only once its floors cover everything that was committed before that moment, and else loads.
//!
//! One moment covers all names, so a token is as short for a list as for one value, and what a client has read or written of one
//! thing also holds for every other. Not a secret and not a proof: a forged token reveals nothing, and costs what the caller of
//! [`Cache::catch_up`] grants.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{Cache, entry::DbTime, fence::Era};

/// How far the pictures that two instances have of the database's clock can lie apart: by as much as a look at the ledger may
/// take, and more. A token from farther in the future was not given by any instance.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(30);

/// A moment in one life of the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsistencyToken {
    era: Arc<str>,
    moment: DbTime,
}

/// How far an instance has come with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// The floors cover what it stands for: the tiers may be used.
    Covered,
    /// They don't cover it in time, because looks at the ledger are late: only a load keeps the promise.
    Late,
    /// It belongs to another life of the database, or to none. What it stands for can't be compared with anything here.
    OtherEra,
    /// It names a moment that lies so far ahead that no instance has given it.
    Impossible,
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

    /// Waits for a moment until the floors cover everything the token stands for. Costs no query: one look at the ledger serves
    /// all who wait.
    pub async fn catch_up(&self, token: &ConsistencyToken) -> CatchUp {
        let fence = &self.inner.fence;
        let now = fence.db_now();
        if token.era != fence.era().name {
            // The other era may have begun a moment ago; the next look tells.
            fence.wait_for(now).await;
            if token.era != fence.era().name {
                return CatchUp::OtherEra;
            }
        }
        if token.moment > now.after(MAX_CLOCK_DIFFERENCE) {
            return CatchUp::Impossible;
        }
        // What a token stands for was committed before the request that brings it was sent, whatever moment it names.
        if fence.wait_for(token.moment.min(now)).await { CatchUp::Covered } else { CatchUp::Late }
    }

    /// [`Cache::catch_up`] for a token that was late, with more patience: for as long as a look proves anything.
    pub async fn catch_up_later(&self, token: &ConsistencyToken) -> bool {
        let fence = &self.inner.fence;
        token.era == fence.era().name && fence.wait_for_within(token.moment.min(fence.db_now()), fence.trust()).await
    }

    /// Whether the moment of a token has come. One that lies ahead was not given by this instance.
    pub fn has_reached(&self, token: &ConsistencyToken) -> bool {
        token.moment <= self.inner.fence.db_now()
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
