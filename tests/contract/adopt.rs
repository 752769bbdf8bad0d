//! The tests that the files of `make adopt` agree with this crate. Only `make check` builds a copy,
//! so these tests compare texts.

use super::sources::{files, read};

#[test]
fn a_copy_takes_the_same_versions() {
    let plain = |line: &str| line.split(" #").next().unwrap_or_default().trim_end().to_owned();
    let ours: Vec<String> = read("Cargo.toml").lines().map(plain).collect();
    let copy = read("adopt/Cargo.toml");
    let wanted = copy.split("\n[").filter(|part| part.contains("dependencies]\n"));
    let wanted: Vec<&str> = wanted.flat_map(|part| part.lines().skip(1)).filter(|line| line.contains(" = ")).collect();
    assert!(wanted.len() > 15, "only {} dependencies were found", wanted.len());
    for line in wanted {
        assert!(ours.iter().any(|known| known == line), "Cargo.toml has no such line: {line}");
    }
}

#[test]
fn a_copy_raises_names_by_the_function_of_the_ledger() {
    assert!(read("migrations/0001_cache.sql").contains("create function cache_raise"));
    assert!(read("scripts/adopt.sh").contains("migrations/0001_cache.sql"), "the copy has it too");
    assert!(!read("adopt/migrations/0002_invoices.sql").contains("create function cache_raise"), "and no other");
}

#[test]
fn every_statement_about_invoices_names_the_tenant() {
    let source =
        files("adopt/src/domain/invoices", ".rs").into_iter().find(|source| source.path.ends_with("/store.rs"));
    let code = source.expect("the store").code();
    let about = |text: &&str| {
        text.contains(" invoices ")
            && ["select", "insert", "update"].iter().any(|verb| text.trim_start().starts_with(verb))
    };
    let statements: Vec<&str> = code.split('"').skip(1).step_by(2).filter(about).collect();
    assert!(statements.len() >= 5, "only {} statements were found", statements.len());
    for statement in statements {
        assert!(statement.contains("tenant"), "{statement}");
    }
}
