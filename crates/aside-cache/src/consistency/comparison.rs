//! Comparison of values. It finds changes that raised no tag, which no version can show.
//!
//! A load that replaces an entry of L1 compares the two. If the versions are the same and the bytes
//! are not, a writer changed the data and raised no tag that the answer depends on. A small number
//! of *sampled loads* makes sure that keys are compared whose entries come from L2 again and again.
//!
//! There are no false alarms. A change may have raised a wildcard, which does not show in the
//! versions of the entry. The comparison therefore waits until the floors include everything that
//! the load has seen. If they refuse the former entry, the change was named. Fields that a policy
//! declares as volatile are not compared.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    Cache,
    entry::{Entry, TagVersion},
    key::Key,
    observe::{
        counters::Counters,
        snapshot::{Metric, Series, of_pattern},
    },
    policy::{Cacheable, Policy},
    read::l2_read::WriteBack,
    read::load::Load,
    tiers::l1::LocalEntry,
};

/// How long a comparison waits for a poll of the ledger that is sent after the load.
const POLL_WAIT: Duration = Duration::from_secs(5);

/// The results of the comparisons, and the budget of sampled loads.
pub(crate) struct ValueComparison {
    /// The pause between two sampled loads of a type. `None`: there are none.
    pause: Option<Duration>,
    /// The time of the next sampled load of each type.
    next: Mutex<HashMap<&'static str, Duration>>,
    compared: Counters<&'static str>,
    unnamed: Counters<&'static str>,
}

impl ValueComparison {
    /// Makes every counter known as zero.
    pub(crate) fn new(pause: Option<Duration>, policies: &[Policy]) -> Self {
        let (compared, unnamed) = (Counters::default(), Counters::default());
        for policy in policies {
            compared.add(&policy.name, 0);
            unnamed.add(&policy.name, 0);
        }
        Self { pause, next: Mutex::default(), compared, unnamed }
    }

    /// The number of entries of a type that were compared, and the number of changes that raised no
    /// tag.
    pub(crate) fn seen(&self, pattern: &'static str) -> (u64, u64) {
        let count = |counters: &Counters<&'static str>| counters.with(&pattern, |count| count.load(Ordering::Relaxed));
        (count(&self.compared), count(&self.unnamed))
    }

    pub(crate) fn snapshot(&self) -> [Metric; 2] {
        let of = |counters| Series::counts(counters, |pattern| of_pattern(*pattern));
        [
            Metric::counter(
                "cache_values_compared",
                "Entries that were loaded again with the same versions, and compared",
                of(&self.compared),
            ),
            Metric::counter(
                "cache_unnamed_changes",
                "Of these, entries whose data were changed by a writer that raised no tag: must be 0",
                of(&self.unnamed),
            ),
        ]
    }

    /// Takes a sampled load of this type out of the budget, if there is one.
    fn take(&self, pattern: &'static str, now: Duration) -> bool {
        let Some(pause) = self.pause else { return false };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.entry(pattern).or_default();
        let is_due = now >= *due;
        if is_due {
            *due = now + pause;
        }
        is_due
    }
}

impl Cache {
    /// Compares a loaded entry with the one of L1 that it replaces.
    pub(crate) fn compare_with_replaced<T: Cacheable>(&self, key: &Key<T>, loaded: &LocalEntry<T>) {
        if !self.inner.l1.contains(key) {
            return;
        }
        let Some(held) = self.inner.l1.get(key) else { return };
        let now = self.inner.clock.now();
        // Rows of the ledger that were idle for longer may have been removed, and their versions with them.
        let is_recent = self.inner.freshness.age(held.entry.loaded_at, now) < self.inner.freshness.retention();
        // After the end of an answer, another one may be right.
        let has_ended = held.entry.valid_until.is_some_and(|end| loaded.entry.snapshot_upper_bound >= end);
        let is_comparable = held.epoch.number == loaded.epoch.number && is_recent && !has_ended;
        if !is_comparable || !have_same_versions(&held.entry.tag_versions, &loaded.entry.tag_versions) {
            return;
        }
        self.inner.comparison.compared.add(&T::POLICY.name, 1);
        if !differ(&held.entry, &loaded.entry) {
            return;
        }
        let (this, key) = (self.clone(), key.clone());
        self.inner.background.follow(async move {
            if this.inner.freshness.wait_for_poll_after(now, POLL_WAIT).await
                && this.inner.freshness.permits_version(key.tag(), &held)
            {
                this.report_unnamed(&key);
            }
        });
    }

    fn report_unnamed<T: Cacheable>(&self, key: &Key<T>) {
        let pattern = T::POLICY.name;
        self.inner.comparison.unnamed.add(&pattern, 1);
        let shown = match key.tenant_of() {
            None => Some(key.as_str().to_owned()),
            Some(tenant) => self.inner.placement.hashed(tenant, pattern, key.tag()),
        };
        tracing::error!(
            pattern,
            key = shown.as_deref().unwrap_or("unknown"),
            "data were changed by a writer that raised no tag of this entry; other entries may be wrong too. \
             Find the writer, declare its tables with cache_track, and invalidate the pattern"
        );
    }

    /// Loads a value that L2 has just answered, in the background, to compare the two. It does so
    /// for a few values a second, and only while Postgres has little to do.
    pub(crate) fn sample_load<T, E, L>(&self, key: &Key<T>, load: L, deadline: Duration)
    where
        T: Cacheable,
        L: Load<T, E>,
        E: crate::LoadError,
    {
        if self.inner.admission.is_busy() || !self.inner.comparison.take(T::POLICY.name, self.inner.clock.now()) {
            return;
        }
        let (this, key) = (self.clone(), key.clone());
        self.inner.background.follow(async move {
            let epoch = this.inner.freshness.epoch();
            let Ok(loaded) = load.load(&this, &key, deadline).await else { return };
            if let Ok(local) = this.make_entry(loaded, &epoch) {
                this.fill(&[(key, local)], &epoch, WriteBack::LocalOnly);
            }
        });
    }
}

/// Whether two answers depend on the same tags at the same versions. The rows of a list may have
/// another order. An answer without tags depends on time only.
fn have_same_versions(one: &[TagVersion], other: &[TagVersion]) -> bool {
    let sorted = |versions: &[TagVersion]| {
        let mut sorted: Vec<_> = versions.iter().map(|version| (version.tag.clone(), version.version)).collect();
        sorted.sort_unstable();
        sorted
    };
    !one.is_empty() && one.len() == other.len() && (one == other || sorted(one) == sorted(other))
}

/// Whether the values differ in more than their volatile fields.
fn differ<T: Cacheable>(one: &Entry<T>, other: &Entry<T>) -> bool {
    if one.digest == other.digest {
        return false;
    }
    let volatile = T::POLICY.volatile;
    let lasting = |body: &[u8]| {
        let mut value: Value = serde_json::from_slice(body).ok()?;
        remove(&mut value, volatile);
        Some(value)
    };
    volatile.is_empty() || lasting(&one.body) != lasting(&other.body)
}

/// Removes fields of all objects in a value.
fn remove(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !fields.contains(&name.as_str()));
            members.values_mut().for_each(|member| remove(member, fields));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, fields)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{DbTime, Tag, tiers::codec};

    #[derive(Serialize, Deserialize)]
    struct Page(Vec<(String, Value)>);

    impl Cacheable for Page {
        const POLICY: Policy = Policy::public("page", Duration::from_mins(1)).volatile(&["views"]);
    }

    fn page(items: Value) -> Entry<Page> {
        let value = Page(vec![("items".into(), items)]);
        codec::entry(Some(value), Arc::new([]), (DbTime(0), DbTime(0))).unwrap()
    }

    #[test]
    fn volatile_fields_are_not_compared_at_any_depth() {
        let one = page(serde_json::json!([{ "id": 1, "views": 7 }, { "id": 2, "views": 8 }]));
        let viewed = page(serde_json::json!([{ "id": 1, "views": 9 }, { "id": 2 }]));
        let changed = page(serde_json::json!([{ "id": 1, "views": 7 }, { "id": 3, "views": 8 }]));
        assert!(!differ(&one, &viewed));
        assert!(differ(&one, &changed));
        assert!(differ(&one, &codec::entry(None, Arc::new([]), (DbTime(0), DbTime(0))).unwrap()), "absence is a value");
    }

    #[test]
    fn versions_are_compared_in_any_order_and_without_tags_there_is_nothing_to_compare() {
        let version = |tag: &str, version| TagVersion { tag: Tag::from_ledger(tag), version };
        let (a, b) = (version("a:1", 1), version("b:1", 2));
        assert!(have_same_versions(&[a.clone(), b.clone()], &[b.clone(), a.clone()]));
        assert!(!have_same_versions(&[a.clone(), b.clone()], &[a.clone(), version("b:1", 3)]));
        assert!(!have_same_versions(&[a.clone(), b], &[a]));
        assert!(!have_same_versions(&[], &[]));
    }

    #[test]
    fn each_type_has_its_own_budget() {
        let comparison = ValueComparison::new(Some(Duration::from_secs(1)), &[]);
        let take = |pattern, millis| comparison.take(pattern, Duration::from_millis(millis));
        assert_eq!((take("a", 0), take("a", 999), take("b", 999), take("a", 1_000)), (true, false, true, true));
        assert!(!ValueComparison::new(None, &[]).take("a", Duration::ZERO));
    }
}
