//! Rate limits. Each tenant may send a burst of requests at once and then a fixed number a second
//! (GCRA), independent of other tenants. Above the limit, the answer says when to retry, in
//! `Retry-After` and in the fields of the IETF's draft on rate limits.
//!
//! A second limit applies to requests without a valid token by address. Only these requests are
//! counted and refused, so a client is not locked out by other clients behind the same address.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Mutex,
    time::{Duration, Instant},
};

use aside_cache::Tenant;
use axum::http::{HeaderName, HeaderValue, header};
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DashMapStateStore,
};

use super::problem::{Kind, Problem};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Requests a second without a valid token from one address. This is far more than any client sends
/// by mistake.
const FAILURES: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
/// The interval at which idle entries are removed.
const SWEEP: Duration = Duration::from_secs(1);
/// The number of tenants or addresses from which idle entries are removed.
const REMEMBERED: usize = 10_000;

/// A limit of requests per second for each key. Idle keys are removed.
struct Limited<K: Clone + Eq + Hash> {
    per_second: NonZeroU32,
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock>,
    swept: Mutex<Instant>,
}

impl<K: Clone + Eq + Hash> Limited<K> {
    fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second,
            limiter: RateLimiter::keyed(Quota::per_second(per_second)),
            swept: Mutex::new(Instant::now()),
        }
    }

    /// Counts a request, or returns when the next one is allowed.
    fn check_limit(&self, who: &K) -> Result<(), NotUntil<<DefaultClock as Clock>::Instant>> {
        if let Ok(mut swept) = self.swept.try_lock()
            && swept.elapsed() >= SWEEP
        {
            *swept = Instant::now();
            if self.limiter.len() >= REMEMBERED {
                self.limiter.retain_recent();
            }
        }
        self.limiter.check_key(who)
    }
}

/// The rates of all tenants.
pub struct Rates {
    requests: Limited<Tenant>,
    told: Limited<Tenant>,
}

impl Rates {
    /// Creates a limit of `per_second` requests for each tenant.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { requests: Limited::new(per_second), told: Limited::new(NonZeroU32::MIN) }
    }

    /// Counts a request of a tenant, or returns a problem with the time of the next allowed one.
    pub fn check_limit(&self, tenant: &Tenant) -> Result<(), Problem> {
        let detail = "The tenant sends more requests than it may.";
        let full = |full| too_many(detail, ("tenant", self.requests.per_second), &full);
        self.requests.check_limit(tenant).map_err(full)
    }

    /// Returns whether a tenant's refusal is the first within about a second. Recording all of them
    /// would fill the audit's disk.
    pub fn should_record(&self, tenant: &Tenant) -> bool {
        self.told.check_limit(tenant).is_ok()
    }
}

/// The limit of requests without a valid token by address.
pub struct Failures(Limited<IpAddr>);

impl Default for Failures {
    fn default() -> Self {
        Self(Limited::new(FAILURES))
    }
}

impl Failures {
    /// Counts a request without a valid token, or returns a problem with the time of the next
    /// allowed one.
    pub fn check_limit(&self, peer: IpAddr) -> Result<(), Problem> {
        let detail = "The address sends more requests without a valid token than it may.";
        self.0.check_limit(&self.counted(peer)).map_err(|full| too_many(detail, ("address", FAILURES), &full))
    }

    /// The address under which a request is counted. When the map is full, all addresses share one
    /// entry.
    fn counted(&self, peer: IpAddr) -> IpAddr {
        if self.0.limiter.len() >= REMEMBERED {
            return Ipv6Addr::UNSPECIFIED.into();
        }
        match peer.to_canonical() {
            // The owner of one IPv6 address usually has the whole /64 network.
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address @ IpAddr::V4(_) => address,
        }
    }
}

fn too_many(
    detail: &'static str,
    (of, per_second): (&str, NonZeroU32),
    full: &NotUntil<<DefaultClock as Clock>::Instant>,
) -> Problem {
    let wait = full.wait_time_from(DefaultClock::default().now());
    let seconds = wait.as_secs() + 1;
    Problem::new(&Kind::RATE_LIMITED, detail)
        .with_value(header::RETRY_AFTER, seconds.into())
        .with_value(RATE_LIMIT, text(format!(r#""{of}";r=0;t={seconds}"#)))
        .with_value(RATE_LIMIT_POLICY, text(format!(r#""{of}";q={per_second};w=1"#)))
}

fn text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_uses_up_its_own_rate_only() {
        let rates = Rates::new(NonZeroU32::new(3).unwrap());
        let [greedy, other] = ["greedy", "other"].map(|name| Tenant::parse(name).unwrap());
        let refused = (0..100).filter(|_| rates.check_limit(&greedy).is_err()).count();
        assert!((90..=97).contains(&refused), "{refused} of a hundred at once were refused");
        assert!(rates.check_limit(&other).is_ok());
        let told = (0..100).filter(|_| rates.should_record(&greedy)).count();
        assert!((1..=3).contains(&told), "{told} of a hundred refusals at once would be recorded");
    }

    #[test]
    fn addresses_without_valid_tokens_are_counted_apart_and_no_more_of_them_than_are_remembered() {
        let failures = Failures::default();
        let [greedy, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let refused = (0..1000).filter(|_| failures.check_limit(greedy).is_err()).count();
        assert!(refused > 500, "{refused} of a thousand at once were refused");
        assert!(failures.check_limit(other).is_ok());
        let [near, nearer] = ["2001:db8::1", "2001:db8::2"].map(|address| failures.counted(address.parse().unwrap()));
        assert_eq!(near, nearer);
        assert_eq!(failures.counted("::ffff:192.0.2.1".parse().unwrap()), greedy);
        for address in 0..5 * REMEMBERED as u128 {
            let _ = failures.check_limit(Ipv6Addr::from_bits(address << 64).into());
        }
        assert!(failures.0.limiter.len() <= REMEMBERED + 1, "{}", failures.0.limiter.len());
    }
}
