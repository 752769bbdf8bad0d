//! L2: a store of bytes that several instances share. A small trait, so that another backend fits in one file. Nothing that
//! comes out of it is believed, so an implementation owes only this: it may lose anything at any time, and it may fail.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// The backend failed; the caller goes on without it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct L2Error(pub String);

/// A key of L2 with its value and lifetime.
#[derive(Clone, Debug)]
pub struct L2Put {
    /// The full key.
    pub key: String,
    /// The sealed entry.
    pub value: Bytes,
    /// How long to keep it at most; at least a millisecond.
    pub lifetime: Duration,
}

/// A shared store of bytes. Deadlines and the breaker are the caller's, not the backend's.
#[async_trait]
pub trait L2: Send + Sync + 'static {
    /// The values of `keys`, in their order.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, L2Error>;

    /// Stores each value for its lifetime.
    async fn put_many(&self, entries: &[L2Put]) -> Result<(), L2Error>;

    /// Removes the keys; those that aren't there are no error.
    async fn delete_many(&self, keys: &[String]) -> Result<(), L2Error>;
}
