//! The tests that modules depend in one direction only:
//! `main → cli → app → http, management → domain, cdn`, with the leaves below all of them. The cache
//! is a package of its own, so the compiler checks that it uses nothing of the service.

use super::sources::{Source, files};

/// The modules of the crate, from the top down. A module may use modules of lower rows only, and
/// none of its own row.
const ROWS: [&[&str]; 7] = [
    &["main", "lib"],
    &["cli"],
    &["app"],
    &["http", "management", "seed"],
    &["warming"],
    &["domain", "cdn"],
    &["audit", "config", "telemetry", "shutdown", "readiness"],
];

#[test]
fn arrows_run_one_way() {
    let mut wrong = Vec::new();
    for source in files("src", ".rs") {
        let own = module(&source);
        for used in uses(&source.code()).into_iter().chain(uses_above(&source)) {
            if used != own && row(&used) <= row(&own) {
                wrong.push(format!("{} uses {used}, which does not stand below {own}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_store_is_known_to_one_file_of_the_cache() {
    let homes = [
        ("moka::", "crates/aside-cache/src/tiers/l1.rs"),
        ("redis::", "crates/aside-cache/src/tiers/redis/"),
        ("TcpStream", "crates/aside-cache/src/tiers/memcached/"),
        // The statements of the cache itself, and the caller's select.
        ("sqlx::query(", "crates/aside-cache/src/consistency/ledger"),
        ("sqlx::query_with(", "crates/aside-cache/src/read/select.rs"),
        // The pool, and the way through a pooler.
        ("PgConnectOptions", "crates/aside-cache/src/database/pool"),
    ];
    for source in files("crates/aside-cache/src", ".rs") {
        // The folder's own module is called `redis` too.
        let code = source.code().replace("redis::{RedisL2, RedisTls, RedisTopology}", "");
        for (word, home) in homes {
            assert!(
                source.path.starts_with(home) || !code.contains(word),
                "{} speaks {word}, which belongs into {home}",
                source.path
            );
        }
    }
}

/// A service that ends a write itself can forget to handle refusals. `Cache::write` ends all writes
/// in one place.
#[test]
fn writes_of_the_services_end_in_one_place() {
    for (folder, ending) in [("src/domain", "/service.rs"), ("adopt/src", "/service.rs")] {
        let services: Vec<Source> = files(folder, ending);
        assert!(!services.is_empty(), "no service in {folder}");
        for source in services {
            let writes = ["cache.write(", "cache.write_for("].iter().any(|call| source.code().contains(call));
            assert!(writes, "{} writes nothing", source.path);
            for word in [".begin()", ".commit()", ".finish_unchanged()"] {
                assert!(!source.code().contains(word), "{} ends a write by hand: {word}", source.path);
            }
        }
    }
}

#[test]
fn drivers_of_the_tiers_are_known_to_the_cache_only() {
    for source in files("src", ".rs") {
        for driver in ["moka", "deadpool_redis", "redis::"] {
            assert!(!source.code().contains(driver), "{} speaks {driver}", source.path);
        }
    }
}

#[test]
fn handlers_write_no_sql_and_the_domain_knows_no_http() {
    for source in files("src/domain", ".rs") {
        for word in ["axum", "StatusCode", "http::"] {
            assert!(!source.code().contains(word), "{} speaks {word}", source.path);
        }
    }
    for source in files("src/http", ".rs").iter().filter(|source| !source.path.ends_with("/health.rs")) {
        assert!(!source.code().contains("sqlx::query"), "{} writes SQL", source.path);
    }
}

/// The top module of a file.
fn module(source: &Source) -> String {
    let inside = source.path.trim_start_matches("src/");
    inside.split(['/', '.']).next().expect("a name").to_owned()
}

fn row(module: &str) -> usize {
    let found = ROWS.iter().position(|row| row.contains(&module));
    found.unwrap_or_else(|| panic!("the module {module} has no place in the rows of this test"))
}

/// The top modules that code names after `crate::`, also in braces.
fn uses(code: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(name(rest)),
            Some(inside) => {
                let mut depth = 0;
                let mut fresh = true;
                for (at, c) in inside.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => fresh = true,
                        c if fresh && !c.is_whitespace() => {
                            found.push(name(&inside[at..]));
                            fresh = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The top modules that code names after `super::`. As many `super::` as the file is deep lead to
/// the top too.
fn uses_above(source: &Source) -> Vec<String> {
    let inside = source.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let up = "super::".repeat(inside.split('/').count());
    uses(&source.code().replace(&up, "crate::")).into_iter().filter(|_| source.code().contains(&up)).collect()
}

#[test]
fn uses_are_found_in_every_form() {
    let above = |path: &str, text: &str| uses_above(&Source { path: path.to_owned(), text: text.to_owned() });
    assert_eq!(above("src/http/mod.rs", "use super::config::Config;"), ["config"]);
    assert_eq!(above("src/http/products/batch.rs", "use super::super::super::{http, app::App};"), ["app", "http"]);
    assert_eq!(above("src/http/caching.rs", "use super::extract::Body;"), [] as [&str; 0]);
    let code =
        "use crate::audit::Audit;\nuse crate::{\n  config::{Config, A},\n  domain::x,\n};\nfn f() { crate::http::g() }";
    assert_eq!(uses(code), ["audit", "config", "domain", "http"]);
}

#[test]
fn every_statement_about_orders_names_the_tenant() {
    let mut seen = 0;
    for source in files("src/domain/orders", ".rs") {
        let code = source.code();
        // Statements are string literals. Those of tests are in other files.
        for statement in code.split('"').skip(1).step_by(2) {
            let about = [" orders ", " orders\n", "into orders"].iter().any(|table| statement.contains(table));
            let verb =
                ["select", "update", "insert", "delete"].iter().any(|verb| statement.trim_start().starts_with(verb));
            if about && verb {
                seen += 1;
                assert!(statement.contains("tenant"), "{}: {statement}", source.path);
            }
        }
    }
    assert!(seen >= 5, "only {seen} statements were found");
}
