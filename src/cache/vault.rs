//! Where an entry may be kept, under which key L2 finds it, and how it is sealed there. Three things decide: the policy of its type, the
//! home of its tenant, and the keys that this process has. What may not leave the process has no place in L2 to be put to.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use ring::hmac;

use super::{
    codec,
    fence::Era,
    key::{Name, Tenant},
    keyring::{Keyring, Keys, Secret, Unopened},
    policy::{Abroad, Policy, Residency},
    tenants::{Home, SecretsSince, Tenants},
};

/// The secret of what belongs to everybody.
const SHARED: Secret = [0; 32];
/// Bytes of a hashed name: two different names never share the first 128 bits.
const HASHED: usize = 16;

/// Where the values of a type may be kept here, for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// In no tier of this region, and they may not be read here either.
    Refused,
    /// The same, because nobody knows yet where the tenant is at home.
    Unknown,
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
    /// For what belongs to a tenant: when its secret was taken.
    since: Option<SecretsSince>,
}

/// Knows where things may be kept.
pub(super) struct Vault {
    pub(super) namespace: String,
    pub(super) region: String,
    pub(super) keys: Arc<Keys>,
    pub(super) tenants: Arc<Tenants>,
}

impl Vault {
    /// Where values of a type may be kept. A tenant that is not known is at home nowhere.
    pub(super) fn stay(&self, policy: &Policy, tenant: Option<&Tenant>) -> Stay {
        let Some(tenant) = tenant else {
            return if policy.residency == Residency::ProcessOnly { Stay::Process } else { Stay::Anywhere };
        };
        let home = self.tenants.asked_for(tenant);
        let here = |home: &Home| home.region.as_ref().is_none_or(|region| *region == self.region);
        match policy.residency {
            Residency::ProcessOnly => Stay::Process,
            Residency::Regional(abroad) if !home.as_deref().is_some_and(here) => match (abroad, home) {
                (Abroad::Refused, None) => Stay::Unknown,
                (Abroad::Refused, Some(_)) => Stay::Refused,
                (Abroad::NotKept, _) => Stay::Nowhere,
            },
            Residency::Regional(_) | Residency::Shared => Stay::Anywhere,
        }
    }

    /// The place of an entry in L2, if it may have one.
    pub(super) fn shelf(&self, policy: &Policy, tenant: Option<&Tenant>, name: &Name, era: &Era) -> Option<Shelf> {
        // Before the secret is taken.
        let since = self.tenants.now_of_secrets();
        if self.stay(policy, tenant) != Stay::Anywhere {
            return None;
        }
        let secret = match tenant {
            Some(tenant) => self.tenants.home(tenant)?.secret,
            None => SHARED,
        };
        let (keys, personal) = (self.keys.current(), policy.sensitivity.is_personal());
        if personal && keys.is_none() {
            return None;
        }
        let shown = match personal {
            true => Cow::Owned(hashed(&secret, policy.pattern, name)),
            false => Cow::Borrowed(name.as_str()),
        };
        let form = [codec::REVISION, policy.format.letter(), policy.shape];
        let key = [&self.namespace, ":", &form.concat(), ":", &era.name, ":", &shown].concat();
        Some(Shelf { key, sealing: keys.map(|keys| (keys, secret)), since: tenant.map(|_| since) })
    }

    /// The place in L2 of what the ledger calls so, to be tidied there.
    pub(super) fn shelf_of(&self, policies: &[Policy], name: &Name, era: &Era) -> Option<Shelf> {
        let policy = policies.iter().find(|policy| policy.pattern == name.pattern())?;
        let tenant = if policy.sensitivity.is_personal() { Some(name.tenant_of()?) } else { None };
        self.shelf(policy, tenant.as_ref(), name, era)
    }

    /// The name that L2 knows something personal by; `None` for a tenant that is not known.
    pub(super) fn hashed(&self, tenant: &Tenant, pattern: &str, name: &Name) -> Option<String> {
        Some(hashed(&self.tenants.home(tenant)?.secret, pattern, name))
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
            Some((keys, secret)) => {
                let sealed = keys.seal(secret, self.key.as_bytes(), &entry);
                self.is_of_now(keys, secret).then_some(sealed?).map(Bytes::from)
            }
            None => Some(entry),
        }
    }

    /// The entry in what L2 holds.
    pub(super) fn open<'a>(&self, sealed: &'a [u8]) -> Result<Cow<'a, [u8]>, Unopened> {
        match &self.sealing {
            Some((keys, secret)) => {
                let opened = keys.open(secret, self.key.as_bytes(), sealed)?;
                self.is_of_now(keys, secret).then_some(Cow::Owned(opened)).ok_or(Unopened)
            }
            None => Ok(Cow::Borrowed(sealed)),
        }
    }

    /// Whether no secret was given up since this one was taken; else what was derived from it must not be remembered.
    fn is_of_now(&self, keys: &Keyring, secret: &Secret) -> bool {
        let now = self.since.as_ref().is_none_or(SecretsSince::are_the_same);
        if !now {
            keys.forget(secret);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::{
        Format, Sensitivity,
        tenants::tests::{home, tenants},
    };

    const POLICY: Policy = Policy {
        pattern: "diary",
        l1: Duration::from_secs(1),
        l2: Duration::from_secs(1),
        absent: Duration::from_secs(1),
        max_age: Duration::from_secs(60),
        stale_on_outage: Duration::ZERO,
        jitter_percent: 0,
        format: Format::Json,
        shape: "1",
        compress_above: 1_000,
        sensitivity: Sensitivity::Regulated,
        residency: Residency::Shared,
    };

    fn vault() -> (Vault, Tenant) {
        let keys = Keyring::parse(&format!("a:{}", "1".repeat(64))).unwrap();
        let (tenants, tenant) = tenants();
        let (namespace, region) = ("test".to_owned(), "here".to_owned());
        (Vault { namespace, region, keys: Arc::new(Keys::new(Some(keys))), tenants }, tenant)
    }

    #[tokio::test]
    async fn a_fill_that_is_under_way_while_its_tenant_is_erased_comes_to_nothing() {
        let (vault, tenant) = vault();
        vault.tenants.learn(0, vec![(tenant.clone(), home(1))]).unwrap();
        let name = Name::tenant(POLICY.pattern, &tenant, &[&1]);
        let shelf = vault.shelf(&POLICY, Some(&tenant), &name, &Era { number: 1, name: "era".into() }).unwrap();
        let sealed = shelf.seal(Bytes::from_static(b"order")).unwrap();
        assert!(shelf.open(&sealed).is_ok());
        vault.tenants.forget(&tenant);
        assert!(shelf.seal(Bytes::from_static(b"order")).is_none() && shelf.open(&sealed).is_err());
    }

    #[tokio::test]
    async fn who_is_at_home_nowhere_yet_is_not_taken_for_somebody_from_abroad() {
        let (vault, tenant) = vault();
        let refused = Policy { residency: Residency::Regional(Abroad::Refused), ..POLICY };
        assert_eq!(vault.stay(&refused, Some(&tenant)), Stay::Unknown);
        let abroad = Home { region: Some("elsewhere".to_owned()), secret: [1; 32] };
        vault.tenants.learn(0, vec![(tenant.clone(), Some(abroad))]).unwrap();
        assert_eq!(vault.stay(&refused, Some(&tenant)), Stay::Refused);
    }
}
