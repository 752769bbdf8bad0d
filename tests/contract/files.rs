//! The house style as far as a machine can see it.

use super::sources::{Source, files};

/// Lines above which a file has more than one role.
const LONGEST: usize = 400;

fn ours() -> Vec<Source> {
    ["src", "tests", "examples", "benches", "adopt"].iter().flat_map(|folder| files(folder, ".rs")).collect()
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
    for source in files("tests", ".rs").into_iter().chain(files("adopt/tests", ".rs")) {
        let may = [
            "tests/support/eventually.rs",
            "tests/support/proxy.rs",
            "tests/support/redis_server.rs",
            "tests/support/memcached_server.rs",
            "tests/consistency/pace.rs",
        ];
        let sleeps = [["thread::", "sleep"], ["time::", "sleep"]].map(|parts| parts.concat());
        let found = sleeps.iter().any(|sleep| source.text.contains(sleep.as_str()));
        assert!(
            may.contains(&source.path.as_str()) || !found,
            "{} sleeps: open a gate or ask until it is so",
            source.path
        );
    }
}
