//! Protection of personal data: encryption keys, tenants, and where entries may be stored.

#[cfg(feature = "encryption")]
pub(crate) mod keyring;
#[cfg(not(feature = "encryption"))]
#[path = "protect/no_keyring.rs"]
pub(crate) mod keyring;
pub(crate) mod keys;
pub(crate) mod placement;
pub(crate) mod tenants;
