//! The tests that the files of `make adopt` agree with this crate. Only `make check` builds a copy,
//! so most of these tests compare texts.

use std::{collections::BTreeMap, process::Command};

use super::sources::{files, read};

/// The names and versions of the dependencies in a `Cargo.toml`.
fn versions(manifest: &str) -> BTreeMap<String, String> {
    let version = |line: &str| {
        let (name, value) = line.split_once(" = ")?;
        let value = value.split_once("version = ").map_or(value, |(_, value)| value);
        let version = value.strip_prefix('"')?.split('"').next()?;
        Some((name.to_owned(), version.to_owned()))
    };
    let sections =
        manifest.split("\n[").filter(|part| part.lines().next().is_some_and(|head| head.contains("dependencies]")));
    sections.flat_map(str::lines).filter_map(version).collect()
}

#[test]
fn a_copy_takes_the_same_versions() {
    let (ours, copy) = (versions(&read("Cargo.toml")), versions(&read("adopt/Cargo.toml")));
    let compared: Vec<_> = copy.iter().filter(|(name, _)| ours.contains_key(*name)).collect();
    assert!(compared.len() > 8, "only {compared:?}");
    for (name, version) in compared {
        assert_eq!(version, &ours[name], "{name}");
    }
}

#[test]
fn every_statement_about_invoices_names_the_tenant() {
    let source = read("adopt/src/invoices/service.rs");
    let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let about = |text: &&str| {
        text.contains(" invoice")
            && ["select", "insert", "update"].iter().any(|verb| text.trim_start().starts_with(verb))
    };
    let literals = code.split('"').skip(1).step_by(2);
    let statements: Vec<String> =
        literals.filter(about).map(|text| text.replace("insert into invoice_lines select $1", "tenant")).collect();
    assert!(statements.len() >= 6, "only {} statements were found", statements.len());
    for statement in statements {
        assert!(statement.contains("tenant"), "{statement}");
    }
}

/// One regulated type takes this much of a team: table, tags, reads, writes, routes and tests.
#[test]
fn one_type_takes_at_most_350_lines() {
    let own = files("adopt/src/invoices", ".rs").into_iter().chain(files("adopt/migrations", ".sql"));
    let lines = |text: &str| text.lines().count();
    let all: usize = own.map(|source| lines(&source.text)).sum();
    let all = all + lines(&read("adopt/tests/invoices.rs"));
    assert!(all <= 350, "{all} lines");
}

/// A name is refused before a file is written.
#[test]
fn a_name_is_a_word_of_rust_that_the_template_does_not_use() {
    let refused = |name: &str| {
        let mut make = Command::new("scripts/adopt.sh");
        make.args(["--name", name, "/nowhere/at/all"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = make.output().expect("the script runs");
        assert!(!output.status.success(), "{name} is taken");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for name in ["Patient", "lab-result", "7up", "_x", "a__b", "", "pa tient", "x;y"] {
        assert!(refused(name).contains("is no name"), "{name}");
    }
    assert!(refused("match").contains("keyword"));
    for name in ["tenant", "customer", "line", "cache", "invoice_line"] {
        assert!(refused(name).contains("word of the template"), "{name}");
    }
}
