//! A11: a run proves something only if enough events of every kind occurred. So a run continues
//! until it has seen enough.

use std::collections::BTreeMap;

use crate::{
    check::history::{Record, Told},
    nemesis,
    notes::FaultNote,
    redis_faults,
    store::Mode,
};

/// A kind of event with its count and its required minimum.
pub struct Seen {
    pub what: &'static str,
    pub count: u64,
    pub least: u64,
}

impl Seen {
    pub fn enough(&self) -> bool {
        self.count >= self.least
    }
}

pub fn all(mode: Mode, records: &[Record], faults: &[FaultNote], counters: &BTreeMap<String, u64>) -> Vec<Seen> {
    let sum = |mark: &str, of: &str| {
        let series = counters.iter().filter(|(series, _)| series.contains(mark) && series.starts_with(of));
        series.map(|(_, count)| count).sum::<u64>()
    };
    let outcome = |outcome: &str, of: &str| sum(&format!("outcome=\"{outcome}\""), of);
    let fills = |result: &str| sum(&format!("cache_l2_fills_total{{result=\"{result}\"}}"), "");
    let told = |wanted: fn(&Record) -> bool| records.iter().filter(|record| wanted(record)).count() as u64;
    let restored = faults.iter().filter(|fault| [redis_faults::OLD_DUMP, redis_faults::PROMOTED].contains(&fault.kind));
    let restored = restored.filter_map(|fault| fault.note.split(' ').next()?.parse::<u64>().ok()).sum();
    let kinds = nemesis::kinds(mode);
    let played = kinds.iter().filter(|kind| faults.iter().any(|fault| fault.kind == **kind)).count() as u64;
    let absent =
        |r: &Record| matches!(&r.told, Told::Values(values) if values.iter().any(|(_, sight)| sight.is_none()));
    let again = |r: &Record| r.verb == "order again" && matches!(r.told, Told::Written(_));
    let lost = |r: &Record| r.instance.is_some() && matches!(r.told, Told::Lost);
    [
        ("kinds of faults", played, kinds.len() as u64),
        ("answers from L1", outcome("l1_hit", ""), 500),
        ("answers from L2", outcome("l2_hit", ""), 100),
        ("stale entries of L1 or L2 refused", outcome("loaded_invalidated", ""), 50),
        ("stale entries of L2 refused by the instance without L1", outcome("loaded_invalidated", "2 "), 3),
        ("unreadable entries refused", outcome("loaded_unreadable", ""), 1),
        ("answers flagged as stale", outcome("stale", ""), 1),
        ("reads past the tiers for want of current floors", outcome("loaded_not_current", ""), 5),
        ("fills refused because the lease was lost", fills("lease_lost"), 1),
        ("fills refused because they were older", fills("older"), 1),
        ("keys back from an old dump or an ignorant replica", restored, 10),
        ("absences answered", told(absent), 50),
        ("orders placed twice under one key", told(again), 5),
        ("requests with a token", told(|r| r.token_of.is_some()), 50),
        ("writes acknowledged for the fleet", told(|r| r.fleet && matches!(r.told, Told::Written(_))), 10),
        ("writes by SQL", told(|r| r.instance.is_none() && matches!(r.told, Told::Written(_))), 20),
        ("requests without an answer", told(lost), 10),
    ]
    .into_iter()
    .map(|(what, count, least)| Seen { what, count, least })
    .collect()
}
