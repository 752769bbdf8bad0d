//! Tests of the audit log: records are read back as they were written, and every change or removal
//! is detected.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use chrono::Utc;

use super::{
    Audit, ChainError, Counts, Head, QUEUE, REFUSALS, Record, Span, Verified, VerifyError, sink::Sink, verify,
    verify_files,
};

struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("aside-audit-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.file()).unwrap().lines().map(str::to_owned).collect()
    }

    fn with_lines(&self, lines: &[String]) -> Result<Verified, VerifyError> {
        verify(BufReader::new(format!("{}\n", lines.join("\n")).as_bytes()), None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn check(path: &Path) -> Result<Verified, VerifyError> {
    verify(BufReader::new(File::open(path).unwrap()), None)
}

fn record(subject: &str) -> Record {
    Record {
        time: Utc::now(),
        tenant: "acme".into(),
        subject: subject.into(),
        operation: "read",
        key: "order:0123456789abcdef".into(),
        outcome: "l1_hit",
        request_id: "r-1".into(),
        trace_id: None,
    }
}

#[test]
fn a_hundred_thousand_records_of_many_threads_are_all_there() {
    let place = Place::new();
    let (audit, thread) = Audit::start(&place.file()).unwrap();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let audit = audit.clone();
            scope.spawn(move || {
                for n in 0..12_500 {
                    audit.record(record(&format!("client {at}")));
                    // The queue absorbs bursts. No client writes faster than the disk for ever.
                    if n % 1000 == 0 {
                        audit.flush();
                    }
                }
            });
        }
    });
    audit.flush();
    let verified = check(&place.file()).unwrap();
    assert_eq!((verified.records, verified.before.number, verified.lost, verified.torn), (100_000, 0, 0, 0));
    drop(audit);
    thread.join().unwrap();
}

#[test]
fn what_was_changed_removed_or_put_in_is_found() {
    let place = Place::new();
    let (audit, _thread) = Audit::start(&place.file()).unwrap();
    (0..100).for_each(|at| audit.record(record(&format!("subject {at}"))));
    audit.flush();
    let lines = place.lines();
    let whole = place.with_lines(&lines).unwrap();

    let altered = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        place.with_lines(&lines)
    };
    assert!(matches!(altered(&|lines| drop(lines.remove(50))), Err(VerifyError::Changed(50))));
    assert!(altered(&|lines| drop(lines.drain(20..70))).is_err());
    assert!(altered(&|lines| lines[50] = lines[50].replace("subject 50", "nobody")).is_err());
    assert!(altered(&|lines| lines.insert(50, lines[50].clone())).is_err());
    assert!(altered(&|lines| lines.swap(50, 51)).is_err());
    assert!(altered(&|lines| lines[50] = "not a record".into()).is_err());
    assert!(altered(&|lines| lines[0] = lines[0].replace("subject 0", "nobody")).is_err());
    // A file that was truncated at either end is still a chain. The numbers and the head reveal the
    // truncation.
    assert_ne!(altered(&|lines| lines.truncate(90)).unwrap().head, whole.head);
    assert_eq!(altered(&|lines| drop(lines.remove(0))).unwrap().before.number, 1);
    assert!(matches!(place.with_lines(&[]), Err(VerifyError::Empty)));
}

#[test]
fn a_file_is_continued_after_an_end_and_after_a_line_that_was_broken_off() {
    let place = Place::new();
    for torn in [false, true, false] {
        if torn {
            let length = fs::metadata(place.file()).unwrap().len();
            OpenOptions::new().write(true).open(place.file()).unwrap().set_len(length - 20).unwrap();
        }
        let (audit, thread) = Audit::start(&place.file()).unwrap();
        (0..3).for_each(|_| audit.record(record("somebody")));
        drop(audit);
        thread.join().unwrap();
    }
    let verified = check(&place.file()).unwrap();
    assert_eq!((verified.records, verified.torn), (8, 1), "one of nine was broken off");
    // This is the end of a file that is being written, or whose writer was killed.
    OpenOptions::new().append(true).open(place.file()).unwrap().write_all(b"{\"number\":9,").unwrap();
    assert_eq!(check(&place.file()).unwrap().torn, 2);
}

#[test]
fn what_a_full_disk_refuses_is_counted_and_reported_by_the_next_record() {
    let place = Place::new();
    let counts = Arc::new(Counts::default());
    let mut sink = Sink::open(&place.file(), Arc::clone(&counts)).unwrap();
    sink.write(&record("first"));
    let disk = sink.replace_file(OpenOptions::new().append(true).open("/dev/full").unwrap());
    (0..5).for_each(|_| sink.write(&record("lost")));
    assert_eq!((counts.written.load(Ordering::Relaxed), counts.lost.load(Ordering::Relaxed)), (1, 5));
    sink.replace_file(disk);
    sink.write(&record("second"));
    let verified = check(&place.file()).unwrap();
    assert_eq!((verified.records, verified.lost), (2, 5));
}

#[test]
fn what_a_disk_took_of_a_line_is_cut_off_again() {
    let place = Place::new();
    let mut sink = Sink::open(&place.file(), Arc::default()).unwrap();
    sink.write(&record("first"));
    OpenOptions::new().append(true).open(place.file()).unwrap().write_all(b"{\"number\":2,\"pre").unwrap();
    sink.is_unsure();
    sink.write(&record("second"));
    let verified = check(&place.file()).unwrap();
    assert_eq!((verified.records, verified.torn), (2, 0));
}

#[test]
fn a_file_has_one_writer_and_one_that_is_taken_away_is_missed() {
    let place = Place::new();
    let (audit, thread) = Audit::start(&place.file()).unwrap();
    assert!(Audit::start(&place.file()).is_err(), "two writers would break the chain");
    audit.record(record("first"));
    audit.flush();
    fs::rename(place.file(), place.0.join("taken")).unwrap();
    audit.record(record("second"));
    audit.flush();
    audit.record(record("third"));
    drop(audit);
    thread.join().unwrap();
    let (taken, next) = (check(&place.0.join("taken")).unwrap(), check(&place.file()).unwrap());
    assert_eq!(next.before, taken.head, "another one goes on");
}

#[test]
fn where_no_file_can_be_made_any_more_records_are_counted_as_lost() {
    let place = Place::new();
    let (audit, thread) = Audit::start(&place.file()).unwrap();
    audit.record(record("first"));
    audit.flush();
    let away = place.0.with_extension("away");
    fs::rename(&place.0, &away).unwrap();
    audit.record(record("into a file that was taken away"));
    audit.flush();
    audit.record(record("nowhere"));
    audit.flush();
    let lost = audit.counts.lost.load(Ordering::Relaxed);
    assert_eq!(lost, 1, "what was written before anybody could know is in the file that is away");
    fs::rename(&away, &place.0).unwrap();
    audit.record(record("back"));
    drop(audit);
    thread.join().unwrap();
    let verified = check(&place.file()).unwrap();
    assert_eq!((verified.records, verified.lost), (3, 1));
}

#[test]
fn blank_lines_at_the_end_begin_no_chain_anew() {
    let place = Place::new();
    for _ in 0..2 {
        let (audit, thread) = Audit::start(&place.file()).unwrap();
        audit.record(record("somebody"));
        drop(audit);
        thread.join().unwrap();
        OpenOptions::new().append(true).open(place.file()).unwrap().write_all(b"\n").unwrap();
    }
    assert_eq!(check(&place.file()).unwrap().head.number, 2);
}

#[test]
fn a_file_that_can_not_be_put_aside_goes_on_and_an_empty_one_goes_on_with_the_one_before() {
    let place = Place::new();
    let mut sink = Sink::open(&place.file(), Arc::default()).unwrap();
    (0..5).for_each(|_| sink.write(&record("somebody")));
    fs::create_dir(place.0.join("audit.jsonl.5")).unwrap();
    sink.rotate_after(1);
    sink.write(&record("somebody"));
    assert_eq!(check(&place.file()).unwrap().head.number, 6);
    sink.rotate_after(1);
    sink.write(&record("somebody"));
    assert_eq!(check(&place.file()).unwrap().before.number, 6);
    drop(sink);
    fs::remove_dir(place.0.join("audit.jsonl.5")).unwrap();
    fs::write(place.file(), "").unwrap();
    let mut sink = Sink::open(&place.file(), Arc::default()).unwrap();
    sink.write(&record("somebody"));
    assert_eq!(check(&place.file()).unwrap().before.number, 6, "after the file that was put aside");
}

#[test]
fn a_long_file_is_put_aside_and_the_next_one_goes_on_with_its_chain() {
    let place = Place::new();
    let mut sink = Sink::open(&place.file(), Arc::default()).unwrap();
    sink.rotate_after(1000);
    (0..10).for_each(|_| sink.write(&record("somebody")));
    let mut files: Vec<(u64, PathBuf)> = fs::read_dir(&place.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (check(&path).unwrap().before.number, path))
        .collect();
    files.sort();
    assert!(files.len() > 2, "{files:?}");
    let verified: Vec<Verified> = files.iter().map(|(_, path)| check(path).unwrap()).collect();
    for pair in verified.windows(2) {
        assert_eq!(pair[1].before, pair[0].head);
    }
    assert_eq!(verified.last().unwrap().head.number, 10);
}

#[test]
fn an_end_that_was_cut_off_a_chain_made_anew_and_a_beginning_that_is_missing_are_found() {
    let place = Place::new();
    let written = |name: &str, subject: &str| {
        let path = place.0.join(name);
        let mut sink = Sink::open(&path, Arc::default()).unwrap();
        (0..10).for_each(|_| sink.write(&record(subject)));
        path
    };
    let file = written("audit.jsonl", "somebody");
    let lines = place.lines();
    let part = |name: &str, lines: &[String]| {
        let path = place.0.join(name);
        fs::write(&path, format!("{}\n", lines.join("\n"))).unwrap();
        path
    };
    let heads: Vec<Head> = (1..=10).map(|end| place.with_lines(&lines[..end]).unwrap().head).collect();
    let look = |files: &[&PathBuf], after: Option<&Head>, known: Option<&Head>| {
        let files: Vec<PathBuf> = files.iter().map(|&file| file.clone()).collect();
        verify_files(&files, &Span { after: after.cloned(), known: known.cloned() }, |_, _| {})
    };

    assert!(look(&[&file], None, Some(&heads[9])).is_ok() && look(&[&file], None, Some(&heads[4])).is_ok());
    let cut = part("cut", &lines[..9]);
    assert!(look(&[&cut], None, None).is_ok(), "which nobody sees who kept no head");
    assert!(matches!(look(&[&cut], None, Some(&heads[9])), Err(ChainError::NotHeld { last: 9, .. })));
    let anew = written("anew", "somebody else");
    assert!(matches!(look(&[&anew], None, Some(&heads[9])), Err(ChainError::NotHeld { last: 10, .. })));

    let (first, second) = (part("first", &lines[..6]), part("second", &lines[6..]));
    assert!(look(&[&first, &second], None, Some(&heads[2])).is_ok());
    assert!(matches!(look(&[&second], None, None), Err(ChainError::NoBeginning(_, 7))));
    assert!(look(&[&second], Some(&heads[5]), Some(&heads[5])).is_ok());
    assert!(matches!(look(&[&second], Some(&heads[4]), None), Err(ChainError::NoContinuation(_))));
    assert!(matches!(look(&[&second], Some(&heads[5]), Some(&heads[2])), Err(ChainError::NotHeld { .. })));
    assert!(matches!(look(&[&second, &first], Some(&heads[5]), None), Err(ChainError::NoContinuation(_))));
}

#[test]
fn a_head_is_read_as_it_is_printed() {
    let head = Head { number: 7, hash: "0a".repeat(32) };
    assert_eq!(head.to_string().parse(), Ok(head));
    for wrong in ["", "7", "7:", ":0a", "7:0a0a", &format!("x:{}", "0a".repeat(32)), &format!("7:{}", "0g".repeat(32))]
    {
        assert!(wrong.parse::<Head>().is_err(), "{wrong}");
    }
}

#[test]
fn callers_who_are_refused_push_out_no_record_of_others() {
    let (queue, records) = std::sync::mpsc::sync_channel(QUEUE);
    let audit = Audit { queue, counts: Arc::default() };
    (0..2 * QUEUE).for_each(|_| audit.refused(record("nobody")));
    let lost = || audit.counts.lost.load(Ordering::Relaxed);
    assert_eq!(lost(), (2 * QUEUE - REFUSALS) as u64);
    (0..QUEUE - REFUSALS).for_each(|_| audit.record(record("somebody")));
    assert_eq!(lost(), (2 * QUEUE - REFUSALS) as u64, "there is room for who is let in");

    let place = Place::new();
    let mut sink = Sink::open(&place.file(), Arc::clone(&audit.counts)).unwrap();
    let counts = Arc::clone(&audit.counts);
    let kept = audit.clone();
    let thread = std::thread::spawn(move || sink.run(&records));
    kept.flush();
    assert_eq!(counts.refusals.load(Ordering::Relaxed), 0, "what was written gives its room back");
    drop((audit, kept));
    thread.join().unwrap();
    assert_eq!(check(&place.file()).unwrap().records, QUEUE as u64);
}
