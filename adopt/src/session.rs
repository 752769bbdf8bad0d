//! The cache as one user of one tenant uses it. Each type adds its reads and writes to it.

use aside_cache::{Cache, Tenant};

/// The cache, and the tenant of the user. It is cheap to clone.
#[derive(Clone)]
pub struct Session {
    pub cache: Cache,
    pub tenant: Tenant,
}
