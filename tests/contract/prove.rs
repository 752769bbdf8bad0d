//! The patches of `make prove` fit the tree and name tests that exist: else they would be found to be stale only by that long run.

use super::sources::{Source, files, read};

#[test]
fn every_removal_of_a_guard_fits_the_tree() {
    let patches = files("tests/prove", ".patch");
    assert!(!patches.is_empty(), "no guard is removed");
    for Source { path, text } in &patches {
        let mut hunks = 0;
        for part in text.split("\n--- a/").skip(1) {
            let (file, rest) = part.split_once('\n').expect("the name of a file");
            let source = read(file);
            for hunk in rest.split("\n@@ ").skip(1) {
                hunks += 1;
                let (head, lines) = hunk.split_once('\n').expect("the lines of a hunk");
                let old: Vec<&str> = lines.lines().filter_map(kept_or_removed).collect();
                let new = lines.lines().filter(|line| !line.starts_with('-')).count();
                let counts = (old.len().to_string(), new.to_string());
                assert!(
                    counted(head) == Some((&counts.0, &counts.1)),
                    "{path}: its head does not count {counts:?}: {head}"
                );
                assert!(source.contains(&old.join("\n")), "{path} does not fit {file}:\n{}", old.join("\n"));
            }
        }
        assert!(hunks > 0, "{path} removes nothing");
    }
}

/// How many lines the head of a hunk, `-78,5 +78,5 @@`, says there are before and after.
fn counted(head: &str) -> Option<(&str, &str)> {
    let (old, new) = head.trim_end_matches(" @@").split_once(" +")?;
    Some((old.split_once(',')?.1, new.split_once(',')?.1))
}

/// The line as it is before the patch; `None` for an added one.
fn kept_or_removed(line: &str) -> Option<&str> {
    match line.split_at_checked(1) {
        Some((" " | "-", line)) => Some(line),
        Some(("+", _)) => None,
        _ => Some(""),
    }
}

#[test]
fn every_removal_says_what_it_removes_and_who_notices() {
    let sources: Vec<Source> = files("tests", ".rs").into_iter().chain(files("src", ".rs")).collect();
    let model = read("docs/model.md");
    for Source { path, text } in files("tests/prove", ".patch") {
        for field in ["guard", "promise", "test"] {
            assert!(text.contains(&format!("# {field}: ")), "{path} names no {field}");
        }
        for number in text.lines().filter_map(|line| line.strip_prefix("# promise: ")).flat_map(numbers) {
            assert!(model.contains(&format!("\n| {number} |")), "{path} rests a promise on {number}: say it in words");
        }
        for test in text.lines().filter_map(|line| line.strip_prefix("# test: ")) {
            let (folder, test) = test.strip_prefix("lib ").map_or(("tests", test), |test| ("src", test));
            let (module, name) = test.rsplit_once("::").expect("a module and a name");
            let place = format!("{folder}/{}", module.replace("::", "/"));
            let place = place.strip_suffix("/tests").filter(|_| folder == "src").unwrap_or(&place).to_owned();
            let function = format!("fn {name}(");
            let inside = |source: &&Source| source.path.starts_with(&place) && source.text.contains(&function);
            assert!(sources.iter().any(|source| inside(&source)), "{path} names {test}, which isn't in {place}");
        }
    }
}

/// The words of a promise that are only numbers, `P1`: who reads the table of a run doesn't know them.
fn numbers(promise: &str) -> Vec<&str> {
    let words = promise.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| word.strip_prefix('P').is_some_and(|rest| rest.parse::<u8>().is_ok())).collect()
}

#[test]
fn numbers_of_promises_are_found() {
    assert_eq!(numbers("P1, P10 with a token"), ["P1", "P10"]);
    assert_eq!(numbers("Postgres may fail; own writes are seen"), [] as [&str; 0]);
}
