//! How many requests a tenant may send a second, whatever the others do: so many at once, and then as many a second (GCRA). Who sends
//! more hears when to try again, by `Retry-After` and by the fields of the IETF's draft on rate limits.

use std::num::NonZeroU32;

use axum::http::{HeaderName, HeaderValue, header};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DashMapStateStore,
};

use super::problem::{Kind, Problem};
use crate::cache::Tenant;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Tenants after which those are forgotten who have been quiet.
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
        self.limiter.check_key(tenant).map_err(|full| {
            let wait = full.wait_time_from(DefaultClock::default().now());
            let seconds = wait.as_secs() + 1;
            Problem::new(&Kind::RATE_LIMITED, "The tenant sends more requests than it may.")
                .with_value(header::RETRY_AFTER, seconds.into())
                .with_value(RATE_LIMIT, text(format!(r#""tenant";r=0;t={seconds}"#)))
                .with_value(RATE_LIMIT_POLICY, text(format!(r#""tenant";q={};w=1"#, self.per_second)))
        })
    }
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
}
