//! Variables of the environment as tests read them: one that is set but empty is not set, because scripts and compose files hand on
//! empty values for what they don't have. `tests/contract/environment.rs` checks that tests read variables nowhere else. And the note
//! of what a test leaves out because a variable is missing: `make test` counts these notes and reports them.

use std::{env, ffi::OsString, fs::OpenOptions, io::Write, thread};

/// The value of a variable. `None`: it is not set, or empty.
pub fn variable(name: &str) -> Option<OsString> {
    not_empty(env::var_os(name))
}

fn not_empty(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

/// Notes in the file of `SKIPPED_LOG` that the test of this thread skips a part, and why.
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
