//! The report on a run: the rules of `check`, the other promises (A9, A11), and the figures.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    time::Duration,
};

use crate::{
    check::{
        self, Findings, Violation,
        history::{History, Micros, Record, Told},
        truth::CLOCKS,
    },
    evidence,
    histogram::Histogram,
    notes::{FaultNote, Notes},
    seen::{self, Seen},
};

/// The lowest permitted hit rate at the end, as a part of the rate before the first fault.
const HITS_BACK: f64 = 0.8;
/// How many violations are shown with their evidence.
const SHOWN: usize = 5;

/// When the phases of a run began.
pub struct Phases {
    pub baseline: Micros,
    pub faults_from: Micros,
    pub calm: Micros,
    pub ended: Micros,
}

pub struct Report {
    seed: u64,
    history: History,
    phases: Phases,
    faults: Vec<FaultNote>,
    findings: Findings,
    /// Events that the run should have seen and did not, and other broken promises.
    complaints: Vec<String>,
    seen: Vec<Seen>,
    hits: (f64, f64),
}

impl Report {
    pub fn of(seed: u64, history: History, phases: Phases, notes: &Notes, stepped: Duration) -> Self {
        let findings = check::check(&history);
        let mut report = Self {
            seed,
            findings,
            faults: notes.faults(),
            seen: seen::all(notes.mode, &history.records, &notes.faults(), &notes.counters()),
            complaints: Vec::new(),
            hits: (
                hit_rate(&history, phases.baseline, phases.faults_from),
                hit_rate(&history, phases.calm, phases.ended),
            ),
            phases,
            history,
        };
        report.recovered();
        let missing = report.seen.iter().filter(|seen| !seen.enough());
        let missing: Vec<_> =
            missing.map(|Seen { what, count, least }| format!("A11: {count} {what}; at least {least}")).collect();
        report.complaints.extend(missing);
        if stepped.as_micros() as u64 > CLOCKS {
            report.complaints.push(format!("the machine's clock was stepped by {stepped:?}: nothing is proven"));
        }
        report
    }

    pub fn passed(&self) -> bool {
        self.findings.violations.is_empty() && self.complaints.is_empty()
    }

    /// Checks A9: five seconds after the last fault, the service works as before.
    fn recovered(&mut self) {
        let (before, after) = self.hits;
        if after < before * HITS_BACK {
            self.complaints.push(format!(
                "A9: {:.1} % hits after healing, {:.1} % before",
                after * 100.0,
                before * 100.0
            ));
        }
        let calm = self.phases.calm;
        let ill = |record: &&Record| {
            record.invoked >= calm && record.instance.is_some() && matches!(record.told, Told::Unavailable | Told::Lost)
        };
        let asked = self.history.records.iter().filter(|record| record.invoked >= calm).count();
        let ill = self.history.records.iter().filter(ill).count();
        // A busy machine may delay single requests for too long.
        if ill * 100 > asked {
            self.complaints.push(format!("A9: {ill} of {asked} requests were not answered 5 s after healing"));
        }
    }

    /// Writes records, faults, the report and the plot into a folder.
    pub fn write(&self, out: &Path) -> io::Result<()> {
        let mut records = BufWriter::new(File::create(out.join("records.jsonl"))?);
        for record in &self.history.records {
            serde_json::to_writer(&mut records, record)?;
            records.write_all(b"\n")?;
        }
        records.flush()?;
        let mut faults = BufWriter::new(File::create(out.join("faults.jsonl"))?);
        for fault in &self.faults {
            serde_json::to_writer(&mut faults, fault)?;
            faults.write_all(b"\n")?;
        }
        faults.flush()?;
        let title =
            format!("How old answers were: {} answers, {} faults", self.history.records.len(), self.faults.len());
        fs::write(out.join("staleness.svg"), Histogram::of(&self.findings.staleness).svg(&title))?;
        fs::write(out.join("report.txt"), self.to_string())
    }
}

/// The part of reads that a tier answered.
fn hit_rate(history: &History, from: Micros, to: Micros) -> f64 {
    let (mut reads, mut hits) = (0_u32, 0_u32);
    // Reads that bypassed the tiers on request say nothing about the tiers.
    let counts = |record: &&Record| (from..to).contains(&record.invoked) && !matches!(record.source, "" | "bypass");
    for record in history.records.iter().filter(counts) {
        reads += 1;
        hits += u32::from(matches!(record.source, "l1_hit" | "l2_hit"));
    }
    f64::from(hits) / f64::from(reads.max(1))
}

fn counted<'a>(things: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    things.for_each(|thing| *counts.entry(thing).or_default() += 1);
    counts.iter().map(|(thing, count)| format!("{thing} {count}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, history, phases, faults, findings, complaints, seen, hits } = self;
        let records = &history.records;
        let lasted = phases.ended as f64 / 1e6;
        let rate = records.len() as f64 / lasted;
        writeln!(
            f,
            "seed {seed}: {} requests in {lasted:.0} s ({rate:.0} a second), {} faults",
            records.len(),
            faults.len()
        )?;
        let writes = records.iter().filter(|record| matches!(record.told, Told::Written(_))).count();
        let share = writes as f64 * 100.0 / records.len().max(1) as f64;
        let states: usize = history.audit.values().map(Vec::len).sum();
        writeln!(f, "writes acknowledged: {writes} ({share:.1} %); states committed: {states}")?;
        let statuses: Vec<String> = records.iter().map(|record| record.status.to_string()).collect();
        writeln!(f, "statuses (0: none or by SQL): {}", counted(statuses.iter().map(String::as_str)))?;
        writeln!(f, "requests: {}", counted(records.iter().map(|record| record.verb)))?;
        writeln!(f, "answers from: {}", counted(records.iter().map(|r| r.source).filter(|source| !source.is_empty())))?;
        writeln!(
            f,
            "with a token: {}; acknowledged for the fleet: {}",
            records.iter().filter(|record| record.token_of.is_some()).count(),
            records.iter().filter(|record| record.fleet).count()
        )?;
        writeln!(f, "hits before the faults {:.1} %, after them {:.1} %", hits.0 * 100.0, hits.1 * 100.0)?;
        writeln!(f, "faults: {}", counted(faults.iter().map(|fault| fault.kind)))?;
        for Seen { what, count, .. } in seen {
            writeln!(f, "  {count:>8}  {what}")?;
        }
        writeln!(f, "how old answers were when they were asked for:\n{}", Histogram::of(&findings.staleness).table())?;
        for violation in shown(&findings.violations) {
            writeln!(f, "{}", evidence::of(violation, history, faults))?;
        }
        if !findings.violations.is_empty() {
            let rules: Vec<&str> = findings.violations.iter().map(|violation| violation.rule.as_str()).collect();
            writeln!(f, "VIOLATIONS: {} ({})", rules.len(), counted(rules.into_iter()))?;
        }
        for complaint in complaints {
            writeln!(f, "COMPLAINT: {complaint}")?;
        }
        write!(f, "{}", if self.passed() { "no rule was broken" } else { "THE RUN FAILED" })
    }
}

/// The first violation of each rule, then further ones.
fn shown(violations: &[Violation]) -> Vec<&Violation> {
    let mut shown: Vec<&Violation> = Vec::new();
    for violation in violations {
        if !shown.iter().any(|known| known.rule == violation.rule) {
            shown.push(violation);
        }
    }
    shown.truncate(SHOWN);
    shown
}
