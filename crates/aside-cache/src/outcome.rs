//! The outcome of a read: the tier that answered it, or the reason for a miss. Metrics, logs and
//! `Cache-Status` all use this one enum, so they can't disagree. Every read of the cache counts
//! once, under exactly one outcome. A batch counts each key.

/// The outcome of one read of the cache.
///
/// ```
/// use aside_cache::Outcome;
///
/// assert_eq!((Outcome::L2Hit.as_str(), Outcome::L2Hit.tier()), ("l2_hit", "l2"));
/// assert!(Outcome::L2Hit.is_hit() && Outcome::LoadedCold.is_load());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Served from L1.
    L1Hit,
    /// Served from L2 and stored in L1.
    L2Hit,
    /// Loaded because no tier had the key.
    LoadedCold,
    /// Loaded because the entry had outlived its lifetime.
    LoadedExpired,
    /// Loaded because the entry is older than a change that this instance knows.
    LoadedInvalidated,
    /// Loaded because this instance can't prove at the moment that its floors are current. It does
    /// not use its tiers then.
    LoadedNotCurrent,
    /// Loaded because the entry in L2 could not be opened (damaged, foreign, too large).
    LoadedUnreadable,
    /// Loaded because L2 failed or did not answer in time. Not a miss.
    L2Error,
    /// Loaded because L2 is unhealthy and was skipped (the circuit breaker is open). Not a miss.
    L2Skipped,
    /// Served the result of a load that another request had started.
    Collapsed,
    /// Served without proof that it is fresh: the database is down, and the type's policy allows
    /// it.
    Stale,
    /// Loaded because the request asked for it (`no-cache`, `no-store`).
    Bypass,
    /// Not in any tier, and the request asked not to load (`only-if-cached`).
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

    /// The tier that answered, as metrics and traces name it.
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

    /// Whether this request itself read the database.
    pub const fn is_load(self) -> bool {
        !matches!(self, Self::L1Hit | Self::L2Hit | Self::Collapsed | Self::Stale | Self::NotCached | Self::Failed)
    }

    /// Whether a tier answered without a load.
    pub const fn is_hit(self) -> bool {
        matches!(self, Self::L1Hit | Self::L2Hit)
    }
}
