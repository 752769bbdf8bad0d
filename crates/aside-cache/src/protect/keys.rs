//! The keys in use, and the secrets of tenants.

use std::sync::{Arc, PoisonError, RwLock};

use crate::protect::keyring::Keyring;

/// The secret of one tenant. Shared data have one too.
pub type Secret = [u8; 32];

/// The keys in use. They may change while the process runs.
pub(crate) struct Keys(RwLock<Option<Arc<Keyring>>>);

impl Keys {
    pub(crate) fn new(keys: Option<Keyring>) -> Self {
        Self(RwLock::new(keys.map(Arc::new)))
    }

    /// Seals with other keys from now on, and opens the entries that these keys can open.
    #[cfg(feature = "encryption")]
    pub(crate) fn change(&self, keys: Keyring) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
    }

    /// The current keys, if there are any.
    pub(crate) fn current(&self) -> Option<Arc<Keyring>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
