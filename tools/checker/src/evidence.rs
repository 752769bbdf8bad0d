//! The evidence for one violation, as the shortest history that shows it. It contains the write,
//! the answer, and other answers of the instance about the row in between. It also has the states
//! of the row and the faults at that time.

use std::fmt::Write;

use crate::{
    check::{
        Violation,
        history::{History, Key, Record, Told},
    },
    notes::FaultNote,
    pace::seconds,
};

/// The maximum of other answers shown.
const OTHERS: usize = 6;
/// How long before the write a fault may have ended and still be shown, in microseconds.
const AROUND: u64 = 1_000_000;

pub fn of(violation: &Violation, history: &History, faults: &[FaultNote]) -> String {
    let Violation { rule, why, read, write, key } = violation;
    let answer = &history.records[*read];
    let demand = write.map(|write| &history.records[write]);
    let from = demand.map_or(answer.invoked, |write| write.invoked);
    let mut text = format!("{rule}: {why}\n");
    if let Some(key) = key {
        let _ = writeln!(text, "  {key:?} was, in the end of it:");
        for state in
            history.audit.get(key).into_iter().flatten().filter(|state| state.made <= answer.completed).rev().take(4)
        {
            let what = if state.digest.is_some() { "there" } else { "absent" };
            let (made, version, xid) = (seconds(state.made), state.version, state.xid);
            let _ = writeln!(text, "    {made}  version {version}, {what}, by transaction {xid}");
        }
    }
    if let Some(demand) = demand {
        let _ = writeln!(text, "  demanded by {}", line(demand));
    }
    if let Some(key) = key {
        let between = history.records[..*read].iter().rev().take_while(|record| record.completed >= from);
        let same = |record: &&Record| record.instance == answer.instance && speaks_of(record, *key);
        let mut between: Vec<&Record> = between.filter(same).take(OTHERS).collect();
        between.reverse();
        for record in between {
            let _ = writeln!(text, "  meanwhile   {}", line(record));
        }
    }
    let _ = writeln!(text, "  convicted   {}", line(answer));
    for fault in faults.iter().filter(|fault| fault.ended + AROUND >= from && fault.began <= answer.completed) {
        let _ = writeln!(text, "  fault       {fault}");
    }
    text
}

fn speaks_of(record: &Record, key: Key) -> bool {
    match &record.told {
        Told::Values(values) => values.iter().any(|(told, _)| *told == key),
        Told::Page { items, .. } => items.iter().any(|(told, _)| *told == key),
        _ => false,
    }
}

fn line(record: &Record) -> String {
    let (invoked, completed) = (seconds(record.invoked), seconds(record.completed));
    let whom = match record.instance {
        Some(at) => format!("instance {at} in process run {}", record.process_run),
        None => "Postgres".to_owned(),
    };
    let told = match &record.told {
        Told::Page { list, items, cut } => {
            let versions: Vec<String> = items.iter().map(|(key, sight)| format!("{key:?}@{}", sight.version)).collect();
            format!("{list:?} {}{}", versions.join(" "), if *cut { " …" } else { "" })
        }
        Told::Values(values) => {
            let version = |value: &Option<_>| match value {
                Some(crate::check::history::Sight { version, .. }) => format!("version {version}"),
                None => "absent".to_owned(),
            };
            let values: Vec<String> = values.iter().map(|(key, value)| format!("{key:?} {}", version(value))).collect();
            values.join(", ")
        }
        other => format!("{other:?}"),
    };
    let Record { verb, status, source, client, .. } = record;
    format!("{invoked} to {completed}  {verb} by client {client} on {whom}: {status} {source} {told}")
}
