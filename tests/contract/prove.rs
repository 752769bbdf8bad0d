//! The tests that every mutant of `make prove` can be made of the tree and names existing tests.
//! Otherwise only the long run of `make prove` would find a mutant that no longer fits the code.

use std::path::Path;

use super::sources::{Source, files, read};
use crate::mutants::mutant::{Mutant, names};

fn mutants() -> Vec<Mutant> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = names(root).expect("the folder of the mutants");
    assert!(!names.is_empty(), "there is no mutant");
    names.iter().map(|name| Mutant::load(root, name).expect("a mutant")).collect()
}

#[test]
fn every_mutant_can_be_made() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let errors: Vec<String> = mutants().iter().filter_map(|mutant| mutant.changed_files(root).err()).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn every_mutant_names_the_promise_it_breaks_and_tests_that_exist() {
    let sources: Vec<Source> =
        ["src", "tests", "crates", "tools"].iter().flat_map(|folder| files(folder, ".rs")).collect();
    let model = read("docs/model.md");
    for Mutant { name: mutant, promise, caught_by, .. } in mutants() {
        for number in numbers(&promise) {
            let is_known = model.contains(&format!("\n| {number} |"));
            assert!(
                is_known,
                "{mutant} breaks the promise {number}, which docs/model.md doesn't have: say it in words"
            );
        }
        for test in &caught_by {
            let [package, target, test] = test.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{mutant}: a test has a package, a target and a name: {test}");
            };
            let folder = match (package, target) {
                ("aside", "suite") => "tests".to_owned(),
                ("aside", _) => "src".to_owned(),
                ("model" | "checker", _) => format!("tools/{package}/src"),
                (_, "lib") => format!("crates/{package}/src"),
                _ => format!("crates/{package}/tests/{target}"),
            };
            let (module, name) = test.rsplit_once("::").expect("a module and a name");
            let place = format!("{folder}/{}", module.replace("::", "/"));
            let place = place.strip_suffix("/tests").filter(|_| target == "lib").unwrap_or(&place).to_owned();
            let function = format!("fn {name}(");
            let inside = |source: &&Source| source.path.starts_with(&place) && source.text.contains(&function);
            assert!(sources.iter().any(|source| inside(&source)), "{mutant} names {test}, which isn't in {place}");
        }
    }
}

/// The words of a promise that are only numbers, such as `P1`. Readers of the run's table do not
/// know them.
fn numbers(promise: &str) -> Vec<&str> {
    let words = promise.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| word.strip_prefix('P').is_some_and(|rest| rest.parse::<u8>().is_ok())).collect()
}

#[test]
fn numbers_of_promises_are_found() {
    assert_eq!(numbers("P1, P10 with a token"), ["P1", "P10"]);
    assert_eq!(numbers("Postgres may fail; own writes are seen"), [] as [&str; 0]);
}
