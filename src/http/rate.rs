//! How many requests a tenant may send a second, whatever the others do: so many at once, and then as many a second (GCRA). Who sends
//! more hears when to try again, by `Retry-After` and by the fields of the IETF's draft on rate limits. And how often an address may come
//! with no valid token: only these requests are counted and refused, so that nobody is locked out by neighbours behind one address.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Mutex,
    time::{Duration, Instant},
};

use axum::http::{HeaderName, HeaderValue, header};
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DashMapStateStore,
};

use super::problem::{Kind, Problem};
use crate::cache::Tenant;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Requests a second without a valid token from one address: far more than any client sends by mistake.
const FAILURES: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
/// Pause between two times at which addresses are forgotten that have been quiet.
const SWEEP: Duration = Duration::from_secs(1);
/// Tenants, or addresses, after which those are forgotten who have been quiet.
const REMEMBERED: usize = 10_000;

/// The rates of all tenants.
pub struct Rates {
    per_second: NonZeroU32,
    limiter: RateLimiter<Tenant, DashMapStateStore<Tenant>, DefaultClock>,
}

impl Rates {
    /// So many requests a second for each tenant.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, limiter: RateLimiter::keyed(Quota::per_second(per_second)) }
    }

    /// Counts a request of a tenant, or says when there is room for it.
    pub fn admit(&self, tenant: &Tenant) -> Result<(), Problem> {
        if self.limiter.len() > REMEMBERED {
            self.limiter.retain_recent();
        }
        let detail = "The tenant sends more requests than it may.";
        self.limiter.check_key(tenant).map_err(|full| too_many(detail, ("tenant", self.per_second), &full))
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The requests of all addresses that had no valid token.
pub struct Failures {
    limiter: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock>,
    swept: Mutex<Instant>,
}

impl Default for Failures {
    fn default() -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_second(FAILURES)), swept: Mutex::new(Instant::now()) }
    }
}

impl Failures {
    /// Counts a request without a valid token, or says when there is room for it.
    pub fn admit(&self, peer: IpAddr) -> Result<(), Problem> {
        let detail = "The address sends more requests without a valid token than it may.";
        self.limiter.check_key(&self.counted(peer)).map_err(|full| too_many(detail, ("address", FAILURES), &full))
    }

    /// The address that a request is counted under. Beyond as many as are remembered all share one.
    fn counted(&self, peer: IpAddr) -> IpAddr {
        if self.limiter.len() >= REMEMBERED {
            if let Ok(mut swept) = self.swept.try_lock()
                && swept.elapsed() >= SWEEP
            {
                *swept = Instant::now();
                self.limiter.retain_recent();
            }
            if self.limiter.len() >= REMEMBERED {
                return Ipv6Addr::UNSPECIFIED.into();
            }
        }
        match peer.to_canonical() {
            // Whoever has one address of version 6 has all of these.
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
        let refused = (0..100).filter(|_| rates.admit(&greedy).is_err()).count();
        assert!((90..=97).contains(&refused), "{refused} of a hundred at once were refused");
        assert!(rates.admit(&other).is_ok());
    }
    #[test]
    fn addresses_without_valid_tokens_are_counted_apart_and_no_more_of_them_than_are_remembered() {
        let failures = Failures::default();
        let [greedy, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let refused = (0..1000).filter(|_| failures.admit(greedy).is_err()).count();
        assert!(refused > 500, "{refused} of a thousand at once were refused");
        assert!(failures.admit(other).is_ok());
        let [near, nearer] = ["2001:db8::1", "2001:db8::2"].map(|address| failures.counted(address.parse().unwrap()));
        assert_eq!(near, nearer);
        assert_eq!(failures.counted("::ffff:192.0.2.1".parse().unwrap()), greedy);
        for address in 0..5 * REMEMBERED as u128 {
            let _ = failures.admit(Ipv6Addr::from_bits(address << 64).into());
        }
        assert!(failures.limiter.len() <= REMEMBERED + 1, "{}", failures.limiter.len());
    }
}
