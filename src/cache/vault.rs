//! Where an entry may be kept, under which key L2 finds it, and how it is sealed there. Three things decide: the policy of its type, the
//! home of its tenant, and the keys that this process has. What may not leave the process has no place in L2 to be put to.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use ring::hmac;
use sqlx::PgPool;

use super::{
    codec,
    fence::Era,
    key::{Name, Tenant},
    keyring::{Keyring, Secret, Unopened},
    ledger,
    policy::{Abroad, Policy, Residency},
};

/// Pause between two looks at the tenants that were met.
const PAUSE: Duration = Duration::from_secs(5);
/// The secret of what belongs to everybody.
const SHARED: Secret = [0; 32];
/// Bytes of a hashed name: two different names never share the first 128 bits.
const HASHED: usize = 16;

/// What is known of a tenant.
#[derive(PartialEq, Eq)]
pub(super) struct Home {
    /// The only region in which its regulated data may be cached; `None`: any.
    pub(super) region: Option<String>,
    pub(super) secret: Secret,
}

/// Where the values of a type may be kept here, for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// In no tier of this region, and they may not be read here either.
    Refused,
    /// In no tier of this region.
    Nowhere,
    /// In this process only.
    Process,
    /// In this process and in L2.
    Anywhere,
}

/// A place in L2.
pub(super) struct Shelf {
    /// The key in L2. Format and era are part of it, so that neither another build's entries nor those of another life of the database
    /// are ever found.
    pub(super) key: String,
    sealing: Option<(Arc<Keyring>, Secret)>,
}

/// Knows tenants and keys.
pub(super) struct Vault {
    namespace: String,
    region: String,
    keys: RwLock<Option<Arc<Keyring>>>,
    met: RwLock<HashMap<Tenant, Arc<Home>>>,
    db: PgPool,
}

impl Vault {
    pub(super) fn new((namespace, region): (String, String), keys: Option<Keyring>, db: PgPool) -> Self {
        Self { namespace, region, keys: RwLock::new(keys.map(Arc::new)), met: RwLock::default(), db }
    }

    /// Seals with other keys from now on, and opens what they open.
    pub(super) fn change_keys(&self, keys: Keyring) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
    }

    /// The keys, if there are any.
    pub(super) fn keys(&self) -> Option<Arc<Keyring>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees to it that a tenant is known, which takes a round trip the first time. Where that fails its data are kept nowhere.
    pub(super) async fn meet(&self, tenant: Option<&Tenant>) {
        let Some(tenant) = tenant.filter(|tenant| self.home(tenant).is_none()) else { return };
        match ledger::meet(&self.db, tenant).await {
            Ok(home) => {
                self.met.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), Arc::new(home));
            }
            Err(error) => tracing::debug!(%error, "a tenant is not known yet"),
        }
    }

    /// Forgets a tenant, to meet it anew.
    pub(super) fn forget(&self, tenant: &Tenant) {
        let forgotten = self.met.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        if let (Some(home), Some(keys)) = (forgotten, self.keys()) {
            keys.forget(&home.secret);
        }
    }

    /// Looks again and again whether tenants that were met have moved, or have been given another secret; tells of each time.
    pub(super) async fn follow(&self, changed: impl Fn()) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let met: Vec<Tenant> = self.met.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
            // While the database is away nothing is loaded that could be put to a wrong place.
            let homes = match ledger::homes(&self.db, &met).await {
                Ok(homes) => homes,
                Err(error) => {
                    tracing::debug!(%error, "no word of the tenants");
                    continue;
                }
            };
            let moved: Vec<_> =
                homes.into_iter().filter(|(tenant, home)| self.home(tenant).as_deref() != Some(home)).collect();
            if !moved.is_empty() {
                moved.iter().for_each(|(tenant, _)| self.forget(tenant));
                let moved = moved.into_iter().map(|(tenant, home)| (tenant, Arc::new(home)));
                self.met.write().unwrap_or_else(PoisonError::into_inner).extend(moved);
                changed();
            }
        }
    }

    /// Where values of a type may be kept. A tenant that is not known is at home nowhere.
    pub(super) fn stay(&self, policy: &Policy, tenant: Option<&Tenant>) -> Stay {
        let Some(tenant) = tenant else {
            return if policy.residency == Residency::ProcessOnly { Stay::Process } else { Stay::Anywhere };
        };
        let home = self.home(tenant);
        let here = |home: &Home| home.region.as_ref().is_none_or(|region| *region == self.region);
        match policy.residency {
            Residency::ProcessOnly => Stay::Process,
            Residency::Regional(abroad) if !home.as_deref().is_some_and(here) => match abroad {
                Abroad::Refused => Stay::Refused,
                Abroad::NotKept => Stay::Nowhere,
            },
            Residency::Regional(_) | Residency::Shared => Stay::Anywhere,
        }
    }

    /// The place of an entry in L2, if it may have one.
    pub(super) fn shelf(&self, policy: &Policy, tenant: Option<&Tenant>, name: &Name, era: &Era) -> Option<Shelf> {
        if self.stay(policy, tenant) != Stay::Anywhere {
            return None;
        }
        let secret = match tenant {
            Some(tenant) => self.home(tenant)?.secret,
            None => SHARED,
        };
        let (keys, personal) = (self.keys(), policy.sensitivity.is_personal());
        if personal && keys.is_none() {
            return None;
        }
        let shown = match personal {
            true => Cow::Owned(hashed(&secret, policy.pattern, name)),
            false => Cow::Borrowed(name.as_str()),
        };
        let key = [&self.namespace, ":", codec::REVISION, ":", &era.name, ":", &shown].concat();
        Some(Shelf { key, sealing: keys.map(|keys| (keys, secret)) })
    }

    /// The place in L2 of what the ledger calls so, to be tidied there.
    pub(super) fn shelf_of(&self, policies: &[Policy], name: &Name, era: &Era) -> Option<Shelf> {
        let policy = policies.iter().find(|policy| policy.pattern == name.pattern())?;
        let tenant = if policy.sensitivity.is_personal() { Some(name.tenant_of()?) } else { None };
        self.shelf(policy, tenant.as_ref(), name, era)
    }

    /// The name that L2 knows something personal by; `None` for a tenant that is not known.
    pub(super) fn hashed(&self, tenant: &Tenant, pattern: &str, name: &Name) -> Option<String> {
        Some(hashed(&self.home(tenant)?.secret, pattern, name))
    }

    fn home(&self, tenant: &Tenant) -> Option<Arc<Home>> {
        self.met.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }
}

/// A name of which nobody can tell whom it names who has no secret.
fn hashed(secret: &Secret, pattern: &str, name: &Name) -> String {
    use std::fmt::Write;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), name.as_str().as_bytes());
    let mut text = format!("{pattern}:");
    for byte in &tag.as_ref()[..HASHED] {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Shelf {
    /// An entry as L2 gets it.
    pub(super) fn seal(&self, entry: Bytes) -> Option<Bytes> {
        match &self.sealing {
            Some((keys, secret)) => keys.seal(secret, self.key.as_bytes(), &entry).map(Bytes::from),
            None => Some(entry),
        }
    }

    /// The entry in what L2 holds.
    pub(super) fn open<'a>(&self, sealed: &'a [u8]) -> Result<Cow<'a, [u8]>, Unopened> {
        match &self.sealing {
            Some((keys, secret)) => keys.open(secret, self.key.as_bytes(), sealed).map(Cow::Owned),
            None => Ok(Cow::Borrowed(sealed)),
        }
    }
}
