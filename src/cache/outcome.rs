//! Where an answer came from and why it missed: one closed enum. Metrics, logs and `Cache-Status` all read this one value, so
//! they can't disagree. Every read of the cache counts once under exactly one outcome; a batch counts each key.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// The outcome of one read of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Served from memory.
    L1Hit,
    /// Served from L2, L1 filled.
    L2Hit,
    /// Loaded: no tier held the key.
    LoadedCold,
    /// Loaded: what was held had outlived its lifetime.
    LoadedExpired,
    /// Loaded: what was held is older than a change this instance knows of.
    LoadedInvalidated,
    /// Loaded: the instance can't prove at the moment that its floors are current, so it does not use its tiers.
    LoadedNotCurrent,
    /// Loaded: what L2 held did not open (damaged, foreign, too large).
    LoadedUnreadable,
    /// Loaded: L2 did not answer in time or failed. Not a miss.
    L2Error,
    /// Loaded: L2 is unhealthy and was not asked (the breaker is open). Not a miss.
    L2Skipped,
    /// Served the result of a load that another request had started.
    Collapsed,
    /// Served although nothing proves that it is fresh: the database can't be reached, and the type's policy allows it.
    Stale,
    /// Loaded because the request asked for it (`no-cache`, `no-store`).
    Bypass,
    /// Not in a tier, and the request asked not to load (`only-if-cached`).
    NotCached,
    /// The load failed.
    Failed,
}

impl Outcome {
    /// All outcomes, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::L1Hit,
        Self::L2Hit,
        Self::LoadedCold,
        Self::LoadedExpired,
        Self::LoadedInvalidated,
        Self::LoadedNotCurrent,
        Self::LoadedUnreadable,
        Self::L2Error,
        Self::L2Skipped,
        Self::Collapsed,
        Self::Stale,
        Self::Bypass,
        Self::NotCached,
        Self::Failed,
    ];

    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1Hit => "l1_hit",
            Self::L2Hit => "l2_hit",
            Self::LoadedCold => "loaded_cold",
            Self::LoadedExpired => "loaded_expired",
            Self::LoadedInvalidated => "loaded_invalidated",
            Self::LoadedNotCurrent => "loaded_not_current",
            Self::LoadedUnreadable => "loaded_unreadable",
            Self::L2Error => "l2_error",
            Self::L2Skipped => "l2_skipped",
            Self::Collapsed => "collapsed",
            Self::Stale => "stale",
            Self::Bypass => "bypass",
            Self::NotCached => "not_cached",
            Self::Failed => "failed",
        }
    }

    /// Where the answer was found, in metrics and traces.
    pub const fn tier(self) -> &'static str {
        match self {
            Self::L1Hit => "l1",
            Self::L2Hit => "l2",
            Self::Collapsed => "joined",
            Self::Stale => "stale",
            Self::NotCached | Self::Failed => "none",
            _ => "load",
        }
    }

    /// Whether the database was read for this very request.
    pub const fn is_load(self) -> bool {
        !matches!(self, Self::L1Hit | Self::L2Hit | Self::Collapsed | Self::Stale | Self::NotCached | Self::Failed)
    }

    /// Whether a tier answered, without a load.
    pub const fn is_hit(self) -> bool {
        matches!(self, Self::L1Hit | Self::L2Hit)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}
