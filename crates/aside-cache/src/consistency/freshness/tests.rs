//! The freshness rule at the end of an answer.

use super::*;
use crate::{Cacheable, Key, Policy, entry::Entry, tiers::codec};

#[derive(serde::Serialize, serde::Deserialize)]
struct Price(i64);

impl Cacheable for Price {
    const POLICY: Policy = Policy::public("price", Duration::from_hours(1));
}

/// The database's time is 1,000 s ahead of the instance's.
#[test]
fn an_answer_is_served_until_its_end_by_the_clock_of_the_database() {
    let clock = Clock::adjustable();
    let freshness = Freshness::new(clock.clone(), Duration::from_secs(60), Duration::from_hours(1));
    let (sent, statement) = (clock.now(), DbTime(1_000_000_000));
    freshness.begin_epoch("epoch".into(), DbTime(0), (sent, statement));
    freshness.polled(sent, statement);
    let key = Key::<Price>::new(1);
    let verdicts = |end: Option<u64>, at: u64| {
        let entry = codec::entry(Some(Price(7)), [].into(), (statement, statement)).unwrap();
        let valid_until = end.map(|end| statement.after(Duration::from_secs(end)));
        let entry = Arc::new(Entry { valid_until, ..entry });
        let local = LocalEntry { entry, epoch: freshness.epoch(), fresh_until: sent, cost: Duration::ZERO };
        clock.advance(Duration::from_secs(at).saturating_sub(clock.now().saturating_sub(sent)));
        let verdict = freshness.check(clock.now(), key.tag(), &local, Duration::from_hours(1));
        (verdict, freshness.permits_stale(key.tag(), &local, Duration::from_hours(2)))
    };
    assert_eq!(verdicts(None, 5), (Verdict::Serve, true));
    assert_eq!(verdicts(Some(6), 5), (Verdict::Serve, true));
    assert_eq!(verdicts(Some(6), 6), (Verdict::Expired, false), "not stale either");
    assert_eq!(verdicts(None, 7), (Verdict::Serve, true));
}
