//! The consistency token: a time by the database's clock that a client copies from one answer into
//! its next request, to any instance. The next answer is then never older than the answer that gave
//! the token. The instance serves from its tiers only once its floors cover all commits before that
//! time. Otherwise it loads.
//!
//! One time covers all tags, so the token of a list is as short as that of one value. Data that a
//! client has read or written is covered for all other data too. A token is neither a secret nor a
//! proof. A forged token reveals nothing and costs at most the wait that the caller of
//! [`Cache::catch_up`] grants.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use crate::{Cache, consistency::freshness::Epoch, entry::DbTime};

/// The largest difference between two instances' estimates of the database's clock. It exceeds the
/// longest duration of a poll of the ledger. No instance gives a token from farther in the future.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(30);

/// A time in one epoch of the database.
///
/// ```
/// use aside_cache::ConsistencyToken;
///
/// let earlier: ConsistencyToken = "0123456789ab-1795000000000000".parse().unwrap();
/// let later: ConsistencyToken = "0123456789ab-1795000000000001".parse().unwrap();
/// assert_eq!(earlier.overtaken_by(later.clone()), Some(later));
/// assert!("yesterday".parse::<ConsistencyToken>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsistencyToken {
    epoch: Arc<str>,
    moment: DbTime,
}

/// The result of waiting for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// The floors cover the time of the token, so the tiers may be used.
    Covered,
    /// The floors don't cover it in time, because polls of the ledger are late. Only a load fulfils
    /// the promise.
    Late,
    /// The token belongs to another epoch of the database, or to none, so its time can't be
    /// compared.
    OtherEpoch,
    /// The time of the token is so far ahead that no instance has given it.
    Impossible,
}

impl Cache {
    /// The token that covers everything this instance has acknowledged so far.
    pub fn token_now(&self) -> Option<ConsistencyToken> {
        ConsistencyToken::new(self.inner.freshness.epoch(), self.inner.freshness.db_now())
    }

    /// Waits until no instance serves anything older than the writes that this instance has
    /// acknowledged so far. After D, every other instance has polled the ledger or stopped using
    /// its tiers. D must be the same in the whole fleet.
    pub async fn await_fleet(&self) {
        tokio::time::sleep(self.inner.freshness.max_staleness()).await;
    }

    /// Waits for a short time until the floors cover the token. It takes no query: one poll of the
    /// ledger serves all waiting requests.
    pub async fn catch_up(&self, token: &ConsistencyToken) -> CatchUp {
        let freshness = &self.inner.freshness;
        let now = freshness.db_now();
        if token.epoch != freshness.epoch().name {
            // The other epoch may have just begun, so the next poll decides.
            freshness.wait_for(now).await;
            if token.epoch != freshness.epoch().name {
                return CatchUp::OtherEpoch;
            }
        }
        if token.moment > now.after(MAX_CLOCK_DIFFERENCE) {
            return CatchUp::Impossible;
        }
        // A token covers only commits before its request was sent, even if its time is later.
        if freshness.wait_for(token.moment.min(now)).await { CatchUp::Covered } else { CatchUp::Late }
    }

    /// [`Cache::catch_up`] for a token that was late, with a longer wait: up to D.
    pub async fn catch_up_later(&self, token: &ConsistencyToken) -> bool {
        let freshness = &self.inner.freshness;
        token.epoch == freshness.epoch().name
            && freshness.wait_for_within(token.moment.min(freshness.db_now()), freshness.max_staleness()).await
    }

    /// Whether the time of a token has come. A token whose time lies ahead was not given by this
    /// instance.
    pub fn has_reached(&self, token: &ConsistencyToken) -> bool {
        token.moment <= self.inner.freshness.db_now()
    }
}

impl ConsistencyToken {
    /// The token of an answer whose snapshot upper bound is `moment`. `None` before the first poll
    /// of the ledger.
    pub(crate) fn new(epoch: Epoch, moment: DbTime) -> Option<Self> {
        (epoch.number > 0).then_some(Self { epoch: epoch.name, moment })
    }

    /// The epoch of the database, in letters and digits.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The time of the token.
    pub fn moment(&self) -> DbTime {
        self.moment
    }

    /// `other`, if it covers more in the same epoch of the database.
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
