//! The tests that an empty variable counts as not set. They cover the service, scripts and
//! Makefile, tests and benches. Each test finds the variables by itself, so it covers new ones too.
//! `compose.rs` in this folder tests docker-compose.yml.

use std::{collections::BTreeSet, process::Command};

use super::sources::{Source, files, read};

/// The variables that are settings, as `.env.example` names them.
fn settings() -> BTreeSet<String> {
    let example = read(".env.example");
    let name = |line: &str| {
        let (name, _) = line.trim_start_matches('#').split_once('=')?;
        name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_').then(|| name.to_owned())
    };
    example.lines().filter_map(name).collect()
}

#[test]
fn the_service_runs_with_all_its_variables_empty() {
    let settings = settings();
    assert!(settings.len() > 40, "only {} settings were found", settings.len());
    // This command reads and checks all settings before it finds that it has no L2 to warm, and it
    // needs no server. A flag gives the required one.
    let mut warm = Command::new(env!("CARGO_BIN_EXE_aside"));
    warm.args(["warm", "--database-url", "postgres://aside@127.0.0.1/aside"]);
    let ran = warm.envs(settings.iter().map(|name| (name, ""))).output().expect("aside runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("neither REDIS_URL nor MEMCACHED_URL is set"), "{said}");
}

/// A token needs the secret, and neither a database nor any other setting.
#[test]
fn a_token_is_signed_with_the_secret_alone() {
    let token = |secret: &str| {
        let mut token = Command::new(env!("CARGO_BIN_EXE_aside"));
        token.arg("token").env_clear().env("JWT_SECRET", secret).output().expect("aside runs")
    };
    let signed = token(&"s".repeat(32));
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    assert_eq!(String::from_utf8_lossy(&signed.stdout).split('.').count(), 3);
    let refused = token("");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("JWT_SECRET"));
}

/// All shell scripts of the tree.
fn scripts() -> Vec<Source> {
    let mut scripts = files("scripts", ".sh");
    scripts.push(Source { path: ".ci/run".into(), text: read(".ci/run") });
    scripts
}

/// The names in capitals that a script expands: `$NAME`, `${NAME…}`.
fn expanded(text: &str) -> BTreeSet<String> {
    let begins = text.match_indices('$').map(|(at, _)| text[at + 1..].trim_start_matches(['{', '!', '#']));
    let name = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    begins.map(name).filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase())).collect()
}

#[test]
fn scripts_see_no_empty_variable_and_hand_none_on() {
    let mut names: BTreeSet<String> = scripts().iter().flat_map(|script| expanded(&script.text)).collect();
    for known in [
        "MEMCACHED_BIN",
        "PGBOUNCER_BIN",
        "POSTGRES_BIN_DIR",
        "REDIS_SERVER_BIN",
        "PORT",
        "BIND_ADDR",
        "CARGO_TARGET_DIR",
    ] {
        assert!(names.contains(known), "{known} was not found");
    }
    // Variables of cargo and its test runner, which scripts start. Both fail if these are empty.
    names.extend(["RUST_TEST_THREADS".to_owned(), "CARGO_TARGET_DIR".to_owned()]);
    names.extend(settings());
    // The shell either cannot start without these, or sets them itself.
    for own in ["PATH", "SECONDS", "RANDOM", "BASH_SOURCE", "EPOCHREALTIME"] {
        names.remove(own);
    }
    let mut shell = Command::new("bash");
    shell.args(["-c", "set -euo pipefail; . scripts/lib/common.sh; env"]);
    shell.current_dir(env!("CARGO_MANIFEST_DIR")).envs(names.iter().map(|name| (name, "")));
    let ran = shell.output().expect("bash runs");
    let (seen, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{error}");
    let empty: Vec<&str> = seen.lines().filter(|line| line.ends_with('=')).collect();
    assert!(seen.contains("PATH=") && empty.is_empty(), "{empty:?}");
}

#[test]
fn every_script_reads_no_variable_before_the_empty_ones_are_gone() {
    for Source { path, text } in scripts() {
        if path.starts_with("scripts/lib/") {
            continue;
        }
        let sources =
            |line: &str| line.starts_with(". ") && (line.contains("common.sh") || line.contains("services.sh"));
        let before: Vec<&str> = text.lines().take_while(|line| !sources(line)).collect();
        assert!(
            before.len() < text.lines().count(),
            "{path} sources neither scripts/lib/common.sh nor scripts/services.sh"
        );
        let code: String = before.into_iter().filter(|line| !line.starts_with('#')).collect();
        let read = expanded(&code);
        assert!(read.is_empty(), "{path} reads {read:?} before");
    }
}

#[test]
fn scripts_set_no_variable_of_a_test_to_nothing() {
    // A variable that is exported later and may be empty would be set and empty for the tests.
    let tests =
        read("crates/aside-testkit/src/memcached_server.rs") + &read("crates/aside-testkit/src/redis_server.rs");
    assert!(tests.contains("variable(\"MEMCACHED_BIN\")") && tests.contains("variable(\"REDIS_SERVER_BIN\")"));
    let probe = r#"
        set -euo pipefail
        . scripts/services.sh
        . scripts/lib/memcached.sh
        . scripts/lib/pgbouncer.sh
        clean_up_at_the_end() { :; }
        find_binary() { return 1; }
        type() { return 1; }
        find() { :; }
        find_memcached && exit 1
        find_pgbouncer && exit 1
        look_for_server_binaries && exit 1
        env"#;
    let mut shell = Command::new("bash");
    shell.args(["-c", probe]).current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["MEMCACHED_BIN", "PGBOUNCER_BIN", "POSTGRES_BIN_DIR", "REDIS_SERVER_BIN"] {
        shell.env_remove(name);
    }
    let ran = shell.output().expect("bash runs");
    let seen = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let empty: Vec<&str> = seen.lines().filter(|line| line.ends_with('=')).collect();
    assert!(seen.contains("PATH=") && empty.is_empty(), "{empty:?}");
}

#[test]
fn make_takes_an_empty_cargo_for_none() {
    let mut make = Command::new("make");
    make.args(["--no-print-directory", "--dry-run", "fmt", "CARGO="]).env("CARGO", "");
    // `make test` may have started this test and would pass on its own variables.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(env!("CARGO_MANIFEST_DIR"));
    let shown = make.output().expect("make runs");
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim_end(), "cargo fmt --all");
}

#[test]
fn rust_reads_variables_where_an_empty_one_is_none() {
    let folders = ["src", "crates", "tools", "tests", "benches", "adopt", "fuzz/src"];
    let mut read = 0;
    for Source { path, text } in folders.iter().flat_map(|folder| files(folder, ".rs")) {
        for (at, _) in text.match_indices(&["env::", "var"].concat()) {
            let rest = &text[at..];
            let statement = &rest[..rest.find(';').unwrap_or(rest.len())];
            // The programs of the comparison share no code with this crate. Their callers set every
            // variable.
            let may = ["crates/aside-testkit/src/environment.rs", "src/config/environment.rs"].contains(&path.as_str())
                || path.starts_with("benches/peers/");
            assert!(
                may || statement.contains(".is_empty()"),
                "{path} takes an empty variable for a value: {statement}"
            );
            read += 1;
        }
    }
    assert!(read > 5, "only {read} places were found");
}
