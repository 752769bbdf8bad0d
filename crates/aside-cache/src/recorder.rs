//! Records of accesses to regulated data. The cache calls the service's [`Recorder`] for each read
//! and for each invalidation of a type whose policy is [`Sensitivity::Regulated`]. Without a
//! recorder, [`Cache::start`] refuses such a policy, and a read of such a type fails.
//!
//! Statements that bypass the cache are not recorded here: those of a write, and those on a pool.
//! Warming is not recorded either, because no caller gets a value.

use std::{fmt, future::Future, sync::Arc};

use crate::{
    Cache, LoadFailure,
    entry::TagVersion,
    key::{Key, Tag, Tenant},
    outcome::Outcome,
    policy::{Cacheable, Policy, Sensitivity},
};

tokio::task_local! {
    /// The subject for which the current task works.
    static SUBJECT: Arc<str>;
}

/// Runs `work` for a subject, such as the user of a request. Each [`Access`] of the work names it,
/// also in a write, which runs in its own task.
///
/// ```
/// # async fn handle(_: &str) {}
/// # async fn example() {
/// aside_cache::on_behalf_of("alice", handle("a request")).await;
/// # }
/// ```
pub async fn on_behalf_of<F: Future>(subject: impl Into<Arc<str>>, work: F) -> F::Output {
    SUBJECT.scope(subject.into(), work).await
}

fn subject() -> Option<Arc<str>> {
    SUBJECT.try_with(Arc::clone).ok()
}

/// Gives the subject of the current task to work that another task will run.
pub(crate) fn for_this_subject<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let subject = subject();
    async move {
        match subject {
            Some(subject) => on_behalf_of(subject, work).await,
            None => work.await,
        }
    }
}

/// Records accesses to regulated data. It is called in the task of the access, so it must not
/// block: hand the record to a queue or to a log.
pub trait Recorder: Send + Sync + 'static {
    /// Records one access.
    fn record(&self, access: &Access<'_>);
}

/// One access to regulated data. It has the address of the data, and no value.
pub struct Access<'a> {
    cache: &'a Cache,
    tag: &'a Tag,
    /// The name of the policy of the type. It is `*` for an invalidation of all types.
    pub policy: &'a str,
    /// The tenant of the data. It is `None` for an invalidation of all tenants.
    pub tenant: Option<Tenant>,
    /// The subject of [`on_behalf_of`]. It is `None` for work outside of it.
    pub subject: Option<Arc<str>>,
    /// The kind of the access, and its result.
    pub kind: AccessKind,
}

/// The kind of an access, and its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// A read ended. The outcome is [`Outcome::Failed`] if it got no answer.
    Read {
        /// The source of the answer.
        outcome: Outcome,
        /// Whether the answer has a value, and not a known absence.
        found: bool,
    },
    /// A write or an operator changed the data, or its commit failed and may have changed them.
    Invalidation,
}

impl Access<'_> {
    /// The digest that stands for the data in L2, as [`Cache::hashed_name`] returns it. It reveals
    /// neither the id nor the data. It is `None` while the tenant is not known, and for a pattern.
    pub fn hashed_name(&self) -> Option<String> {
        let tenant = self.tenant.as_ref().filter(|_| self.tag.wildcard().is_none())?;
        self.cache.inner.placement.hashed(tenant, self.policy, self.tag)
    }

    /// The name of the data in clear, with its ids.
    pub fn tag(&self) -> &Tag {
        self.tag
    }
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, tenant, subject, kind, .. } = self;
        write!(f, "{kind:?} of {policy:?} by {subject:?} for {tenant:?}")
    }
}

const fn is_regulated(policy: &Policy) -> bool {
    matches!(policy.sensitivity, Sensitivity::Regulated)
}

/// Panics if a regulated policy has no recorder.
pub(crate) fn require(recorder: Option<&Arc<dyn Recorder>>, policies: &[Policy]) {
    let unrecorded = policies.iter().find(|policy| recorder.is_none() && is_regulated(policy));
    if let Some(policy) = unrecorded {
        panic!(
            "accesses to `{}` must be recorded, because its policy is regulated: set CacheConfig::recorder",
            policy.name
        );
    }
}

impl Cache {
    /// Refuses to read a regulated type whose accesses can't be recorded.
    pub(crate) fn ensure_recorded<T: Cacheable>(&self) -> Result<(), LoadFailure> {
        if !is_regulated(&T::POLICY) {
            return Ok(());
        }
        let is_listed = self.inner.policies.iter().any(|policy| policy.name == T::POLICY.name);
        if is_listed && self.inner.recorder.is_some() { Ok(()) } else { Err(LoadFailure::NotRecorded) }
    }

    /// Records the end of a read, if the type is regulated.
    pub(crate) fn record_read<T: Cacheable>(&self, key: &Key<T>, outcome: Outcome, found: bool) {
        if is_regulated(&T::POLICY) {
            let (tenant, kind) = (key.tenant_of().cloned(), AccessKind::Read { outcome, found });
            self.record(key.tag(), T::POLICY.name, tenant, kind);
        }
    }

    /// Records the invalidated tags of regulated types.
    pub(crate) fn record_invalidations(&self, raised: &[TagVersion]) {
        for TagVersion { tag, .. } in raised {
            let pattern = tag.pattern();
            let mut regulated = self.inner.policies.iter().filter(|policy| is_regulated(policy));
            if regulated.any(|policy| policy.name == pattern || pattern == "*") {
                self.record(tag, pattern, tag.tenant_of(), AccessKind::Invalidation);
            }
        }
    }

    fn record(&self, tag: &Tag, policy: &str, tenant: Option<Tenant>, kind: AccessKind) {
        if let Some(recorder) = &self.inner.recorder {
            recorder.record(&Access { cache: self, tag, policy, tenant, subject: subject(), kind });
        }
    }
}
