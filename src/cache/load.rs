//! What the cache asks of a loader's error, and what it adds to it.

/// A load that brought neither a value nor an error of the loader's. Everyone who waited for it gets this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLoaded {
    /// It panicked, or what it brought can't be encoded.
    #[error("the load ended without a result")]
    Aborted,
    /// It took longer than any load may; or it was not begun, because the database didn't say in time where the tenant is at home.
    #[error("the load did not end in time")]
    Late,
    /// It was not begun: the database can't be reached.
    #[error("the database can't be reached")]
    Unreachable,
    /// It was not begun: as many loads of its kind, or of its tenant, are under way as may be.
    #[error("too many loads are under way")]
    Crowded,
    /// It was not begun: the type's policy keeps the tenant's data from being read in this region.
    #[error("not readable in this region")]
    Abroad,
}

/// The error of a loader. Cloned to everyone who waited for the load.
pub trait LoadError: Clone + From<NotLoaded> + Send + Sync + 'static {
    /// Whether it may have come about because the database can't be reached: what [`is_unavailable`](super::is_unavailable)
    /// recognizes, and what may only have had no room or no time. Then types that allow it are served stale.
    fn is_outage(&self) -> bool;
}
