//! The tests that the files of `make adopt` agree with this crate. Only `make check` builds a copy,
//! so most of these tests compare texts.

use std::process::Command;

use super::sources::read;

#[test]
fn a_copy_takes_the_same_versions() {
    // Features may differ, because a copy chooses its own.
    let version = |line: &str| {
        let (name, rest) = line.split_once(" = ")?;
        let version = rest.split('"').find(|text| text.starts_with(|first: char| first.is_ascii_digit()))?;
        Some((name.to_owned(), version.to_owned()))
    };
    let ours: Vec<(String, String)> = read("Cargo.toml").lines().filter_map(version).collect();
    let copy = read("adopt/Cargo.toml");
    let wanted = copy.split("\n[").filter(|part| part.contains("dependencies]\n"));
    let wanted: Vec<(String, String)> = wanted.flat_map(|part| part.lines().skip(1)).filter_map(version).collect();
    assert!(wanted.len() > 5, "only {} dependencies were found", wanted.len());
    for line in wanted {
        assert!(ours.contains(&line), "Cargo.toml has no such version: {line:?}");
    }
}

#[test]
fn every_statement_about_invoices_names_the_tenant() {
    let source = read("adopt/src/invoices.rs");
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
