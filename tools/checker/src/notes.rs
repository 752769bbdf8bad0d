//! The recording of a run: requests, faults, and the counters of all processes of all instances.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::{
    check::history::{Micros, Record},
    fleet::Instance,
    pace::{Clock, millis, pause, seconds},
    seen,
    store::Mode,
};

/// One fault, from its beginning to its end.
#[derive(Clone, Debug, Serialize)]
pub struct FaultNote {
    pub kind: &'static str,
    /// The instance whose connection or process was affected.
    pub instance: Option<usize>,
    pub began: Micros,
    pub ended: Micros,
    pub note: String,
}

impl std::fmt::Display for FaultNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (began, ended) = (seconds(self.began), seconds(self.ended));
        let at = self.instance.map(|at| format!(" of instance {at}")).unwrap_or_default();
        write!(f, "{began} to {ended}  {}{at}  {}", self.kind, self.note)
    }
}

pub struct Notes {
    /// The topology of Redis in this run.
    pub mode: Mode,
    records: Mutex<Vec<Record>>,
    faults: Mutex<Vec<FaultNote>>,
    counters: Mutex<BTreeMap<String, u64>>,
}

impl Notes {
    pub fn new(mode: Mode) -> Self {
        Self { mode, records: Mutex::default(), faults: Mutex::default(), counters: Mutex::default() }
    }

    /// Stores a record. Returns its index.
    pub fn record(&self, record: Record) -> usize {
        let mut records = held(&self.records);
        records.push(record);
        records.len() - 1
    }

    pub fn count(&self) -> usize {
        held(&self.records).len()
    }

    /// Whether the run has seen enough events of every kind.
    pub fn enough(&self) -> bool {
        let (faults, counters) = (self.faults(), self.counters());
        seen::all(self.mode, &held(&self.records), &faults, &counters).iter().all(seen::Seen::enough)
    }

    pub fn fault(&self, fault: FaultNote) {
        println!("{fault}");
        held(&self.faults).push(fault);
    }

    pub fn faults(&self) -> Vec<FaultNote> {
        held(&self.faults).clone()
    }

    pub fn records(&self) -> Vec<Record> {
        std::mem::take(&mut *held(&self.records))
    }

    /// Counters summed over all processes, by `instance series`.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        held(&self.counters).clone()
    }

    /// Reads the counters of an instance repeatedly. Otherwise the counts of a killed process would
    /// be lost.
    pub async fn follow(&self, at: usize, instance: &Instance, http: &reqwest::Client) {
        let url = format!("http://127.0.0.1:{}/metrics", instance.management);
        let mut last: (u32, HashMap<String, u64>) = (0, HashMap::new());
        loop {
            pause(millis(300)).await;
            let process_run = instance.process_run();
            let Ok(answer) = http.get(&url).timeout(millis(300)).send().await else { continue };
            let Ok(text) = answer.text().await else { continue };
            if process_run != last.0 || process_run != instance.process_run() {
                last = (process_run, HashMap::new());
            }
            for (series, value) in text.lines().filter_map(counter) {
                let before = last.1.insert(series.to_owned(), value).unwrap_or(0);
                *held(&self.counters).entry(format!("{at} {series}")).or_default() += value.saturating_sub(before);
            }
        }
    }
}

fn counter(line: &str) -> Option<(&str, u64)> {
    let wanted = ["cache_requests_total", "cache_l2_fills_total"];
    let (series, value) = line.rsplit_once(' ')?;
    wanted.iter().any(|name| series.starts_with(name)).then(|| Some((series, value.parse().ok()?))).flatten()
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault that has begun. It is recorded when it ends.
pub struct Begun {
    kind: &'static str,
    instance: Option<usize>,
    began: Micros,
}

impl Begun {
    pub fn now(kind: &'static str, instance: Option<usize>, clock: &Clock) -> Self {
        Self { kind, instance, began: clock.now() }
    }

    pub fn ended(self, clock: &Clock, note: String) -> FaultNote {
        FaultNote { kind: self.kind, instance: self.instance, began: self.began, ended: clock.now(), note }
    }
}
