//! Environment variables as tests read them. A variable that is set but empty counts as not set,
//! because scripts and compose files pass empty values. `tests/contract/environment.rs` checks that
//! tests read variables only here.
//!
//! This file also notes the parts that a test skips because a variable is missing. `make test`
//! counts these notes and reports them.

use std::{env, ffi::OsString, fs::OpenOptions, io::Write, thread};

/// Returns the value of a variable. `None` means that it is not set, or empty.
pub fn variable(name: &str) -> Option<OsString> {
    not_empty(env::var_os(name))
}

fn not_empty(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

/// Notes in the file of `SKIPPED_LOG` that the test of this thread skips a part, with the reason.
pub fn note_skipped(reason: &str) {
    let Some(path) = variable("SKIPPED_LOG") else { return };
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let mut log = OpenOptions::new().create(true).append(true).open(path).expect("the file of SKIPPED_LOG opens");
    log.write_all(format!("{test}\t{reason}\n").as_bytes()).expect("a note of what is skipped");
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(not_empty(None), None);
    assert_eq!(not_empty(Some("".into())), None);
    assert_eq!(not_empty(Some("a path".into())), Some("a path".into()));
}
