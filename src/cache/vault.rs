//! Where an entry may be kept, under which key L2 finds it, and how it is sealed there. Three things decide: the policy of its type, the
//! home of its tenant, and the keys that this process has. What may not leave the process has no place in L2 to be put to.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ring::hmac;
use sqlx::PgPool;

use super::{
    clock::Clock,
    codec,
    fence::Era,
    key::{Name, Tenant},
    keyring::{Keyring, Secret, Unopened},
    ledger,
    policy::{Abroad, Policy, Residency},
};

/// Pause between two looks at the tenants that were met.
const PAUSE: Duration = Duration::from_secs(5);
/// After so long a tenant is forgotten for which nobody has asked: longer than L1 keeps anything of it.
const QUIET: Duration = Duration::from_secs(600);
/// How often a tenant is asked for whose answers are thrown away, because tenants are erased meanwhile.
const ATTEMPTS: usize = 5;
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

/// A tenant that was met.
struct Met {
    home: Arc<Home>,
    /// When something of it was last asked for, in seconds.
    asked_for: AtomicU64,
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
    /// For what belongs to a tenant: how many erasures there were when its secret was taken, and how many there are.
    made_in: Option<(u64, Arc<AtomicU64>)>,
}

/// Knows tenants and keys.
pub(super) struct Vault {
    namespace: String,
    region: String,
    keys: RwLock<Option<Arc<Keyring>>>,
    met: RwLock<HashMap<Tenant, Met>>,
    /// Secrets that were given up so far, counted under the lock of `met`: what was asked for before is thrown away.
    erasures: Arc<AtomicU64>,
    clock: Clock,
    db: PgPool,
}

impl Vault {
    pub(super) fn new(
        (namespace, region): (String, String),
        keys: Option<Keyring>,
        (clock, db): (Clock, PgPool),
    ) -> Self {
        let (keys, met, erasures) = (RwLock::new(keys.map(Arc::new)), RwLock::default(), Arc::default());
        Self { namespace, region, keys, met, erasures, clock, db }
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
        let Some(tenant) = tenant.filter(|tenant| self.asked_for(tenant).is_none()) else { return };
        for _ in 0..ATTEMPTS {
            let asked_in = self.erasures();
            match ledger::meet(&self.db, tenant).await {
                Ok(home) => {
                    if self.learn(asked_in, vec![(tenant.clone(), Some(home))]) {
                        return;
                    }
                }
                Err(error) => return tracing::debug!(%error, "a tenant is not known yet"),
            }
        }
    }

    /// Forgets a tenant, to meet it anew. What is under way with the secret that it had comes to nothing.
    pub(super) fn forget(&self, tenant: &Tenant) {
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        self.erasures.fetch_add(1, Ordering::SeqCst);
        let forgotten = met.remove(tenant);
        drop(met);
        self.forget_keys(forgotten);
    }

    /// Takes what the database says of tenants, `None` being that it can't be understood; `false`, and nothing is taken, when there was an
    /// erasure since it was asked: the answer may be of before.
    fn learn(&self, asked_in: u64, homes: Vec<(Tenant, Option<Home>)>) -> bool {
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        if self.erasures() != asked_in {
            return false;
        }
        let mut left = Vec::new();
        for (tenant, home) in homes {
            if met.get(&tenant).map(|known| &*known.home) == home.as_ref() {
                continue;
            }
            let home = home.map(|home| Met { home: Arc::new(home), asked_for: self.now().into() });
            left.extend(match home {
                Some(home) => met.insert(tenant, home),
                None => met.remove(&tenant),
            });
        }
        if !left.is_empty() {
            self.erasures.fetch_add(1, Ordering::SeqCst);
        }
        drop(met);
        self.forget_keys(left);
        true
    }

    /// Forgets what was derived from the secrets of tenants.
    fn forget_keys(&self, forgotten: impl IntoIterator<Item = Met>) {
        let Some(keys) = self.keys() else { return };
        forgotten.into_iter().for_each(|met| keys.forget(&met.home.secret));
    }

    /// Looks again and again whether tenants that were met have moved, or have been given another secret; tells of each time. Tenants for
    /// which nobody has asked for long are forgotten, and met anew when somebody does.
    pub(super) async fn follow(&self, changed: impl Fn()) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let asked_in = self.erasures();
            let met = self.without_quiet();
            // While the database is away nothing is loaded that could be put to a wrong place.
            let homes = match ledger::homes(&self.db, &met).await {
                Ok(homes) => homes,
                Err(error) => {
                    tracing::debug!(%error, "no word of the tenants");
                    continue;
                }
            };
            let moved: Vec<_> =
                homes.into_iter().filter(|(tenant, home)| self.home(tenant).as_deref() != home.as_ref()).collect();
            if !moved.is_empty() && self.learn(asked_in, moved) {
                changed();
            }
        }
    }

    /// The tenants that were met, but for those for which nobody has asked for long, which are forgotten.
    fn without_quiet(&self) -> Vec<Tenant> {
        let since = self.now().saturating_sub(QUIET.as_secs());
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        let quiet: Vec<_> = met.extract_if(|_, known| known.asked_for.load(Ordering::Relaxed) < since).collect();
        let left = met.keys().cloned().collect();
        drop(met);
        self.forget_keys(quiet.into_iter().map(|(_, known)| known));
        left
    }

    /// Where values of a type may be kept. A tenant that is not known is at home nowhere.
    pub(super) fn stay(&self, policy: &Policy, tenant: Option<&Tenant>) -> Stay {
        let Some(tenant) = tenant else {
            return if policy.residency == Residency::ProcessOnly { Stay::Process } else { Stay::Anywhere };
        };
        let home = self.asked_for(tenant);
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
        // Before the secret is taken.
        let erasures = self.erasures();
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
        let form = [codec::REVISION, policy.format.letter(), policy.shape];
        let key = [&self.namespace, ":", &form.concat(), ":", &era.name, ":", &shown].concat();
        let made_in = tenant.map(|_| (erasures, Arc::clone(&self.erasures)));
        Some(Shelf { key, sealing: keys.map(|keys| (keys, secret)), made_in })
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
        Some(Arc::clone(&self.met.read().unwrap_or_else(PoisonError::into_inner).get(tenant)?.home))
    }

    /// The same for somebody who asks for what is the tenant's, which is not forgotten then for a while.
    fn asked_for(&self, tenant: &Tenant) -> Option<Arc<Home>> {
        let met = self.met.read().unwrap_or_else(PoisonError::into_inner);
        let known = met.get(tenant)?;
        known.asked_for.store(self.now(), Ordering::Relaxed);
        Some(Arc::clone(&known.home))
    }

    fn erasures(&self) -> u64 {
        self.erasures.load(Ordering::SeqCst)
    }

    fn now(&self) -> u64 {
        self.clock.now().as_secs()
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
        let now = self.made_in.as_ref().is_none_or(|(made_in, erasures)| erasures.load(Ordering::SeqCst) == *made_in);
        if !now {
            keys.forget(secret);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::cache::{Format, Sensitivity};

    const POLICY: Policy = Policy {
        pattern: "diary",
        l1: Duration::from_secs(1),
        l2: Duration::from_secs(1),
        absent: Duration::from_secs(1),
        max_age: Duration::from_secs(60),
        stale_on_outage: Duration::ZERO,
        loads: 1,
        jitter_percent: 0,
        format: Format::Json,
        shape: "1",
        compress_above: 1_000,
        sensitivity: Sensitivity::Regulated,
        residency: Residency::Shared,
    };

    fn vault() -> (Vault, Tenant) {
        let nowhere = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        let keys = Keyring::parse(&format!("a:{}", "1".repeat(64))).unwrap();
        let place = ("test".to_owned(), "here".to_owned());
        (Vault::new(place, Some(keys), (Clock::adjustable(), nowhere)), Tenant::parse("acme").unwrap())
    }

    fn home(secret: u8) -> Option<Home> {
        Some(Home { region: None, secret: [secret; 32] })
    }

    #[tokio::test]
    async fn what_was_asked_for_before_an_erasure_is_thrown_away() {
        let (vault, tenant) = vault();
        let asked_in = vault.erasures();
        vault.forget(&tenant);
        assert!(!vault.learn(asked_in, vec![(tenant.clone(), home(1))]));
        assert!(vault.home(&tenant).is_none(), "the secret may be the one of before");
        assert!(vault.learn(vault.erasures(), vec![(tenant.clone(), home(2))]));
        assert!(vault.home(&tenant).is_some());
        let asked_in = vault.erasures();
        assert!(vault.learn(asked_in, vec![(tenant.clone(), home(2))]), "the same again is no change");
        assert!(vault.learn(asked_in, vec![(tenant.clone(), home(3))]), "given another one by another instance");
        assert!(!vault.learn(asked_in, vec![(tenant, home(2))]), "which was then asked for too early");
    }

    #[tokio::test]
    async fn a_fill_that_is_under_way_while_its_tenant_is_erased_comes_to_nothing() {
        let (vault, tenant) = vault();
        vault.learn(vault.erasures(), vec![(tenant.clone(), home(1))]);
        let name = Name::tenant(POLICY.pattern, &tenant, &[&1]);
        let shelf = vault.shelf(&POLICY, Some(&tenant), &name, &Era { number: 1, name: "era".into() }).unwrap();
        let sealed = shelf.seal(Bytes::from_static(b"order")).unwrap();
        assert!(shelf.open(&sealed).is_ok());
        vault.forget(&tenant);
        assert!(shelf.seal(Bytes::from_static(b"order")).is_none() && shelf.open(&sealed).is_err());
    }

    #[tokio::test]
    async fn tenants_for_which_nobody_asks_are_forgotten() {
        let (vault, tenant) = vault();
        let quiet = Tenant::parse("quiet").unwrap();
        vault.learn(0, vec![(tenant.clone(), home(1)), (quiet.clone(), home(2))]);
        vault.clock.advance(QUIET / 2);
        vault.meet(Some(&tenant)).await;
        assert_eq!(vault.without_quiet().len(), 2);
        vault.clock.advance(QUIET / 2 + Duration::from_secs(1));
        assert_eq!(vault.without_quiet(), [tenant]);
        assert!(vault.home(&quiet).is_none());
    }
}
