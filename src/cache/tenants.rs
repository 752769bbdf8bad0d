//! The tenants that were met: where each is at home, and its secret. Both are in Postgres, and may change there at any time: tenants move, and
//! are erased. What was known before is then given up, with all that was derived from it.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    admission::{Admission, Kind, Request},
    clock::Clock,
    flight::Flights,
    key::{Name, Tenant},
    keyring::{Keys, Secret},
    ledger,
    pool::ConnectionPool,
};

/// Pause between two looks at the tenants that were met.
const PAUSE: Duration = Duration::from_secs(5);
/// After so long a tenant is forgotten for which nobody has asked, with all that L1 holds of it.
const QUIET: Duration = Duration::from_secs(600);
/// How often a tenant is asked for whose answers are thrown away, because tenants are erased meanwhile.
const ATTEMPTS: usize = 5;

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

/// A moment in the life of secrets.
pub(super) struct SecretsSince {
    erasures: u64,
    now: Arc<AtomicU64>,
}

impl SecretsSince {
    /// Whether no secret was given up since.
    pub(super) fn are_the_same(&self) -> bool {
        self.now.load(Ordering::SeqCst) == self.erasures
    }
}

/// Knows tenants.
pub(super) struct Tenants {
    met: RwLock<HashMap<Tenant, Met>>,
    /// Secrets that were given up so far, counted under the lock of `met`: what was asked for before is thrown away.
    erasures: Arc<AtomicU64>,
    meetings: Flights,
    keys: Arc<Keys>,
    admission: Admission,
    /// How long a request is waited for.
    request_limit: Duration,
    clock: Clock,
    db: ConnectionPool,
}

impl Tenants {
    pub(super) fn new(
        keys: Arc<Keys>,
        admission: Admission,
        request_limit: Duration,
        clock: Clock,
        db: ConnectionPool,
    ) -> Self {
        let (met, erasures, meetings) = (RwLock::default(), Arc::default(), Flights::default());
        Self { met, erasures, meetings, keys, admission, request_limit, clock, db }
    }

    /// Sees to it that a tenant is known, which takes a round trip the first time, one for all who wait for it. Where that fails its data are
    /// kept nowhere.
    pub(super) async fn meet(self: &Arc<Self>, tenant: &Tenant) {
        if self.asked_for(tenant).is_some() {
            return;
        }
        let (this, name, tenant) = (Arc::clone(self), Name::everything_of(tenant), tenant.clone());
        let meeting = self.meetings.board(&name, (), |()| async move { this.ask(&tenant).await });
        meeting.landed().await;
    }

    async fn ask(&self, tenant: &Tenant) {
        let deadline = self.clock.now() + self.request_limit;
        let request = Request { kind: Kind::Load, pattern: "tenants", tenant: Some(tenant), deadline };
        let Ok(permit) = self.admission.acquire(request).await else { return };
        for _ in 0..ATTEMPTS {
            let asked_in = self.erasures();
            match ledger::meet(&self.db, tenant).await {
                Ok(home) => {
                    permit.answered();
                    if self.learn(asked_in, vec![(tenant.clone(), Some(home))]).is_some() {
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

    /// Takes what the database says of tenants, `None` being that it can't be understood; returns those of which something else was known.
    /// `None`, and nothing is taken, when there was an erasure since it was asked: the answer may be of before.
    pub(super) fn learn(&self, asked_in: u64, homes: Vec<(Tenant, Option<Home>)>) -> Option<Vec<Tenant>> {
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        if self.erasures() != asked_in {
            return None;
        }
        let (mut changed, mut left) = (Vec::new(), Vec::new());
        for (tenant, home) in homes {
            if met.get(&tenant).map(|known| &*known.home) == home.as_ref() {
                continue;
            }
            let home = home.map(|home| Met { home: Arc::new(home), asked_for: self.now().into() });
            let before = match home {
                Some(home) => met.insert(tenant.clone(), home),
                None => met.remove(&tenant),
            };
            if let Some(before) = before {
                changed.push(tenant);
                left.push(before);
            }
        }
        if !left.is_empty() {
            self.erasures.fetch_add(1, Ordering::SeqCst);
        }
        drop(met);
        self.forget_keys(left);
        Some(changed)
    }

    /// Forgets what was derived from the secrets of tenants.
    fn forget_keys(&self, forgotten: impl IntoIterator<Item = Met>) {
        let Some(keys) = self.keys.current() else { return };
        forgotten.into_iter().for_each(|met| keys.forget(&met.home.secret));
    }

    /// Looks again and again whether tenants that were met have moved, or have been given another secret. Those for which nobody has asked for
    /// long are forgotten, and met anew when somebody does. Tells of both: nothing that is kept here of them may stay.
    pub(super) async fn follow(&self, left: impl Fn(&[Tenant])) {
        loop {
            tokio::time::sleep(PAUSE).await;
            left(&self.forget_quiet());
            let asked_in = self.erasures();
            // While the database is away nothing is loaded that could be put to a wrong place.
            match ledger::homes(&self.db, &self.known()).await {
                Ok(homes) => left(&self.learn(asked_in, homes).unwrap_or_default()),
                Err(error) => tracing::debug!(%error, "no word of the tenants"),
            }
        }
    }

    fn known(&self) -> Vec<Tenant> {
        self.met.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Forgets the tenants for which nobody has asked for long.
    fn forget_quiet(&self) -> Vec<Tenant> {
        let since = self.now().saturating_sub(QUIET.as_secs());
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        let quiet = met.extract_if(|_, known| known.asked_for.load(Ordering::Relaxed) < since);
        let (quiet, forgotten): (Vec<_>, Vec<_>) = quiet.unzip();
        drop(met);
        self.forget_keys(forgotten);
        quiet
    }

    /// What is known of a tenant.
    pub(super) fn home(&self, tenant: &Tenant) -> Option<Arc<Home>> {
        Some(Arc::clone(&self.met.read().unwrap_or_else(PoisonError::into_inner).get(tenant)?.home))
    }

    /// The same for somebody who asks for what is the tenant's, which is not forgotten then for a while.
    pub(super) fn asked_for(&self, tenant: &Tenant) -> Option<Arc<Home>> {
        let met = self.met.read().unwrap_or_else(PoisonError::into_inner);
        let known = met.get(tenant)?;
        known.asked_for.store(self.now(), Ordering::Relaxed);
        Some(Arc::clone(&known.home))
    }

    /// This moment in the life of secrets.
    pub(super) fn now_of_secrets(&self) -> SecretsSince {
        SecretsSince { erasures: self.erasures(), now: Arc::clone(&self.erasures) }
    }

    fn erasures(&self) -> u64 {
        self.erasures.load(Ordering::SeqCst)
    }

    fn now(&self) -> u64 {
        self.clock.now().as_secs()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::cache::{Concurrency, Keyring, fence::Fence};

    /// Tenants that no database knows, and one of them.
    pub(in crate::cache) fn tenants() -> (Arc<Tenants>, Tenant) {
        let nowhere = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap().into();
        let keys = Keys::new(Keyring::parse(&format!("a:{}", "1".repeat(64))).ok());
        let clock = Clock::adjustable();
        let fence = Arc::new(Fence::new(clock.clone(), Duration::from_secs(1)));
        let admission = Admission::new(Concurrency::of(10), clock.clone(), fence);
        let tenants = Tenants::new(Arc::new(keys), admission, Duration::from_secs(1), clock, nowhere);
        (Arc::new(tenants), Tenant::parse("acme").unwrap())
    }

    pub(in crate::cache) fn home(secret: u8) -> Option<Home> {
        Some(Home { region: None, secret: [secret; 32] })
    }

    #[tokio::test]
    async fn what_was_asked_for_before_an_erasure_is_thrown_away() {
        let (tenants, tenant) = tenants();
        let asked_in = tenants.erasures();
        tenants.forget(&tenant);
        assert_eq!(tenants.learn(asked_in, vec![(tenant.clone(), home(1))]), None);
        assert!(tenants.home(&tenant).is_none(), "the secret may be the one of before");
        assert_eq!(tenants.learn(tenants.erasures(), vec![(tenant.clone(), home(2))]), Some(vec![]), "it is new");
        assert!(tenants.home(&tenant).is_some());
        let asked_in = tenants.erasures();
        assert_eq!(
            tenants.learn(asked_in, vec![(tenant.clone(), home(2))]),
            Some(vec![]),
            "the same again is no change"
        );
        let another = tenants.learn(asked_in, vec![(tenant.clone(), home(3))]);
        assert_eq!(another, Some(vec![tenant.clone()]), "given another one by another instance");
        assert_eq!(tenants.learn(asked_in, vec![(tenant, home(2))]), None, "which was then asked for too early");
    }

    #[tokio::test]
    async fn tenants_for_which_nobody_asks_are_forgotten() {
        let (tenants, tenant) = tenants();
        let quiet = Tenant::parse("quiet").unwrap();
        tenants.learn(0, vec![(tenant.clone(), home(1)), (quiet.clone(), home(2))]).unwrap();
        tenants.clock.advance(QUIET / 2);
        tenants.meet(&tenant).await;
        assert_eq!(tenants.forget_quiet(), []);
        tenants.clock.advance(QUIET / 2 + Duration::from_secs(1));
        assert_eq!(tenants.forget_quiet(), std::slice::from_ref(&quiet));
        assert!(tenants.home(&quiet).is_none());
        assert_eq!(tenants.known(), [tenant]);
    }
}
