//! Placement: the tiers that may store an entry, its key in L2, and its encryption there. It
//! depends on the policy of the type, the home region of the tenant and the keys of this process.
//! An entry that must not leave the process gets no slot in L2.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use crate::{
    consistency::freshness::Epoch,
    key::{Tag, Tenant},
    policy::{OutOfRegion, Policy, Residency},
    protect::keyring::{DecryptError, Keyring, hashed},
    protect::keys::{Keys, Secret},
    protect::tenants::{SecretGeneration, TenantRecord, Tenants},
    tiers::codec,
};

/// The secret of data without a tenant.
const SHARED: Secret = [0; 32];

/// The tiers in this region that may store the values of a type for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// No tier of this region may store them, and they may not be read here either.
    Denied,
    /// As `Denied`, but only because the tenant's home region is not known yet.
    Unknown,
    /// No tier of this region may store them.
    None,
    /// Only this process may store them.
    L1Only,
    /// This process and L2 may store them.
    L1AndL2,
}

/// A slot in L2.
pub(crate) struct L2Slot {
    /// The key in L2. Format and epoch are part of it. Entries of another build or of another epoch
    /// of the database are therefore never found.
    pub(crate) key: String,
    sealing: Option<(Arc<Keyring>, Secret)>,
    /// The generation of secrets when the secret was read. `None` for data without a tenant.
    since: Option<SecretGeneration>,
}

/// Decides where entries are stored.
pub(crate) struct Placement {
    pub(crate) namespace: String,
    pub(crate) region: String,
    pub(crate) keys: Arc<Keys>,
    pub(crate) tenants: Arc<Tenants>,
}

impl Placement {
    /// The tiers that may store values of a type. An unknown tenant has no home region.
    pub(crate) fn storage(&self, policy: &Policy, tenant: Option<&Tenant>) -> Storage {
        let Some(tenant) = tenant else {
            return if policy.residency == Residency::ProcessOnly { Storage::L1Only } else { Storage::L1AndL2 };
        };
        let record = self.tenants.mark_used(tenant);
        let here = |record: &TenantRecord| record.region.as_ref().is_none_or(|region| *region == self.region);
        match policy.residency {
            Residency::ProcessOnly => Storage::L1Only,
            Residency::Regional(out_of_region) if !record.as_deref().is_some_and(here) => match (out_of_region, record)
            {
                (OutOfRegion::Reject, None) => Storage::Unknown,
                (OutOfRegion::Reject, Some(_)) => Storage::Denied,
                (OutOfRegion::NoStore, _) => Storage::None,
            },
            Residency::Regional(_) | Residency::Shared => Storage::L1AndL2,
        }
    }

    /// The slot of an entry in L2, if it may have one.
    pub(crate) fn slot(&self, policy: &Policy, tenant: Option<&Tenant>, tag: &Tag, epoch: &Epoch) -> Option<L2Slot> {
        // The generation must be read before the secret.
        let since = self.tenants.generation();
        if self.storage(policy, tenant) != Storage::L1AndL2 {
            return None;
        }
        let secret = match tenant {
            Some(tenant) => self.tenants.record(tenant)?.secret,
            None => SHARED,
        };
        let (keys, personal) = (self.keys.current(), policy.sensitivity.is_personal());
        if personal && keys.is_none() {
            return None;
        }
        let shown = match personal {
            true => Cow::Owned(hashed(&secret, policy.name, tag)?),
            false => Cow::Borrowed(tag.as_str()),
        };
        let form = [codec::REVISION, policy.format.letter(), policy.schema_version];
        let key = [&self.namespace, ":", &form.concat(), ":", &epoch.name, ":", &shown].concat();
        Some(L2Slot { key, sealing: keys.map(|keys| (keys, secret)), since: tenant.map(|_| since) })
    }

    /// The L2 slot for a tag of the ledger, so that its entry can be deleted.
    pub(crate) fn slot_for_tag(&self, policies: &[Policy], tag: &Tag, epoch: &Epoch) -> Option<L2Slot> {
        let policy = policies.iter().find(|policy| policy.name == tag.pattern())?;
        let tenant = if policy.sensitivity.is_personal() { Some(tag.tenant_of()?) } else { None };
        self.slot(policy, tenant.as_ref(), tag, epoch)
    }

    /// The hashed tag of personal data, which is part of its key in L2. `None` if the tenant is not
    /// known.
    pub(crate) fn hashed(&self, tenant: &Tenant, pattern: &str, tag: &Tag) -> Option<String> {
        hashed(&self.tenants.record(tenant)?.secret, pattern, tag)
    }
}

impl L2Slot {
    /// An entry in the form that is sent to L2.
    pub(crate) fn seal(&self, entry: Bytes) -> Option<Bytes> {
        match &self.sealing {
            Some((keys, secret)) => {
                let sealed = keys.seal(secret, self.key.as_bytes(), &entry);
                self.is_current(keys, secret).then_some(sealed?).map(Bytes::from)
            }
            None => Some(entry),
        }
    }

    /// The entry from the bytes of L2.
    pub(crate) fn open<'a>(&self, sealed: &'a [u8]) -> Result<Cow<'a, [u8]>, DecryptError> {
        match &self.sealing {
            Some((keys, secret)) => {
                let opened = keys.open(secret, self.key.as_bytes(), sealed)?;
                self.is_current(keys, secret).then_some(Cow::Owned(opened)).ok_or(DecryptError)
            }
            None => Ok(Cow::Borrowed(sealed)),
        }
    }

    /// Whether this secret is still current. If a secret was dropped in the meantime, the keys that
    /// were derived from this one are removed.
    fn is_current(&self, keys: &Keyring, secret: &Secret) -> bool {
        let now = self.since.as_ref().is_none_or(SecretGeneration::is_current);
        if !now {
            keys.drop_keys(secret);
        }
        now
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Format, Sensitivity,
        protect::tenants::tests::{record, tenants},
    };

    const POLICY: Policy = Policy {
        name: "diary",
        l1_ttl: Duration::from_secs(1),
        l2_ttl: Duration::from_secs(1),
        negative_ttl: Duration::from_secs(1),
        max_age: Duration::from_secs(60),
        stale_if_error: Duration::ZERO,
        jitter_percent: 0,
        format: Format::Json,
        schema_version: "1",
        compress_above: 1_000,
        sensitivity: Sensitivity::Regulated,
        residency: Residency::Shared,
        volatile: &[],
    };

    fn placement() -> (Placement, Tenant) {
        let keys = Keyring::parse(&format!("a:{}", "1".repeat(64))).expect("keys");
        let (tenants, tenant) = tenants();
        let (namespace, region) = ("test".to_owned(), "here".to_owned());
        (Placement { namespace, region, keys: Arc::new(Keys::new(Some(keys))), tenants }, tenant)
    }

    #[tokio::test]
    async fn a_fill_that_is_under_way_while_its_tenant_is_erased_comes_to_nothing() {
        let (placement, tenant) = placement();
        placement.tenants.update(0, vec![(tenant.clone(), record(1))]).unwrap();
        let tag = Tag::of_tenant(POLICY.name, &tenant, 1);
        let slot = placement.slot(&POLICY, Some(&tenant), &tag, &Epoch { number: 1, name: "epoch".into() }).unwrap();
        let sealed = slot.seal(Bytes::from_static(b"order")).unwrap();
        assert!(slot.open(&sealed).is_ok());
        placement.tenants.evict(&tenant);
        assert!(slot.seal(Bytes::from_static(b"order")).is_none() && slot.open(&sealed).is_err());
    }

    #[tokio::test]
    async fn a_tenant_without_a_known_home_is_not_taken_for_one_of_another_region() {
        let (placement, tenant) = placement();
        let refused = Policy { residency: Residency::Regional(OutOfRegion::Reject), ..POLICY };
        assert_eq!(placement.storage(&refused, Some(&tenant)), Storage::Unknown);
        let out_of_region = TenantRecord { region: Some("elsewhere".to_owned()), secret: [1; 32] };
        placement.tenants.update(0, vec![(tenant.clone(), Some(out_of_region))]).unwrap();
        assert_eq!(placement.storage(&refused, Some(&tenant)), Storage::Denied);
    }
}
