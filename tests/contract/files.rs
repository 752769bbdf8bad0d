//! The tests of the parts of the house style that a machine can check.

use super::sources::{Source, files};

/// The maximum lines of a file. A longer file has more than one role.
const LONGEST: usize = 400;

fn ours() -> Vec<Source> {
    ["src", "tests", "crates", "tools", "benches", "adopt"].iter().flat_map(|folder| files(folder, ".rs")).collect()
}

#[test]
fn no_file_is_longer_than_its_reader_can_hold() {
    for source in ours() {
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines; at most {LONGEST}", source.path);
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in ours() {
        assert!(source.text.starts_with("//! "), "{} has no head", source.path);
    }
}

#[test]
fn imports_stand_in_their_order() {
    for source in ours() {
        assert_eq!(late_import(&source.text), None, "{}: std, then other crates, then this one", source.path);
    }
    assert_eq!(late_import("use std::fmt;\n\nuse axum::Json;\n\nuse super::x;\n"), None);
    assert_eq!(late_import("mod x;\nuse axum::{\n    Json,\n};\nuse x::y;\nfn f() {}\nuse std::fmt;\n"), None);
    assert_eq!(late_import("use super::x;\nuse axum::Json;\n"), Some("use axum::Json;"));
    assert_eq!(late_import("    use axum::Json;\n\n    use std::fmt;\n"), Some("use std::fmt;"));
}

/// The first import that stands behind one of a later group: the standard library, other crates,
/// this crate.
fn late_import(text: &str) -> Option<&str> {
    let modules: Vec<&str> =
        text.lines().filter_map(|line| line.trim_start().split_once("mod ")?.1.split(';').next()).collect();
    let group = |path: &str| match path.split([':', ';', ' ']).next().unwrap_or_default() {
        "std" | "core" | "alloc" => 0,
        "crate" | "super" | "self" => 2,
        module if modules.contains(&module) => 2,
        _ => 1,
    };
    let (mut latest, mut inside) = (0, false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(path) = line.strip_prefix("use ") {
            if group(path) < latest {
                return Some(line);
            }
            latest = group(path);
        } else if !inside {
            latest = 0;
        }
        inside = (inside || line.starts_with("use ")) && !line.ends_with(';');
    }
    None
}

#[test]
fn nothing_is_left_unfinished() {
    let words = [["TO", "DO"], ["FIX", "ME"], ["to", "do!("], ["unimple", "mented!("], ["SKEL", "ETON"]]
        .map(|parts| parts.concat());
    for source in ours() {
        for word in &words {
            assert!(!source.text.contains(word.as_str()), "{} says {word}", source.path);
        }
    }
}

#[test]
fn no_test_sleeps_to_wait() {
    for source in ["tests", "crates", "tools", "adopt/tests"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .filter(|source| is_test(&source.path))
    {
        let may = [
            "crates/aside-testkit/src/eventually.rs",
            "crates/aside-testkit/src/proxy.rs",
            "crates/aside-testkit/src/process.rs",
            "tools/checker/src/pace.rs",
            // Contains the forms of sleeping as text, below.
            "tests/contract/files.rs",
        ];
        let it_may = may.contains(&source.path.as_str());
        assert!(it_may || !sleeps(&source.code()), "{} sleeps: open a gate or ask until it is so", source.path);
    }
}

/// Whether a file holds tests or what they share. Programs may sleep.
fn is_test(path: &str) -> bool {
    path.contains("tests/") || path.starts_with("crates/aside-testkit/") || path.starts_with("tools/checker/")
}

/// Whether code calls a function that sleeps, under any path. `pg_sleep` is a function of Postgres
/// and is not counted.
fn sleeps(code: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let calls = ["sleep(", "sleep_until(", "sleep_ms("].map(|name| code.match_indices(name));
    calls.into_iter().flatten().any(|(at, _)| !code[..at].ends_with(word))
}

#[test]
fn sleeping_is_found_in_every_form() {
    let forms = ["thread::sleep(d)", "use tokio::time::sleep; sleep(d)", "time::sleep_until(t)"];
    assert!(forms.into_iter().all(sleeps));
    assert!(!sleeps("select pg_sleep(1.1); no_test_sleeps_to_wait()"));
}
