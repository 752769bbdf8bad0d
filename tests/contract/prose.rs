//! The tests that everything named in backticks in a document exists: files, targets of make,
//! settings, metrics, routes and examples. They check links too. So they find names that changed
//! only in the code.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::sources::{Source, files, is_metric, paths, read};

/// Folders whose files a document may name.
const FOLDERS: [&str; 18] = [
    "src",
    "tests",
    "docs",
    "scripts",
    "ops",
    "migrations",
    "openapi",
    "crates",
    "tools",
    "adopt",
    "clients",
    "benches",
    "fuzz",
    "data",
    ".github",
    ".devcontainer",
    ".ci",
    ".cargo",
];
const ENDINGS: [&str; 15] = [
    ".rs", ".md", ".sql", ".sh", ".json", ".yml", ".toml", ".svg", ".lua", ".js", ".mjs", ".ts", ".http", ".txt",
    ".example",
];
const METHODS: [&str; 5] = ["GET ", "POST ", "PATCH ", "PUT ", "DELETE "];

fn documents() -> Vec<Source> {
    let root = [
        "README.md",
        "CONTRIBUTING.md",
        "DECISIONS.md",
        "SECURITY.md",
        "tests/README.md",
        "crates/aside-axum/README.md",
        "crates/aside-cache/README.md",
    ];
    let root = root.map(|path| Source { path: path.to_owned(), text: read(path) });
    // The conformance tables show requests, many of them for paths that do not exist.
    let written = files("docs", ".md").into_iter().filter(|source| source.path != "docs/http-conformance.md");
    written.chain(root).collect()
}

/// The kind of thing that a word in backticks names.
#[derive(Debug, PartialEq)]
enum Claim<'a> {
    File(&'a str),
    Target(&'a str),
    Setting(&'a str),
    Metric(&'a str),
    Route(&'a str),
    Example(&'a str),
}

#[test]
fn what_stands_in_backticks_is_there() {
    let known = Known::read();
    let (mut seen, mut missing) = ([0; 6], Vec::new());
    for Source { path, text } in documents() {
        for word in words(&text) {
            let Some(claim) = claimed(word) else { continue };
            let (kind, is_there) = match &claim {
                Claim::File(file) => (0, known.has_file(file, &path)),
                Claim::Target(target) => (1, known.targets.contains(*target)),
                Claim::Setting(name) => (2, known.settings.contains(*name)),
                Claim::Metric(name) => (3, known.has_metric(name)),
                Claim::Route(route) => (4, known.has_route(route)),
                Claim::Example(name) => (5, known.files.contains(&format!("crates/aside-cache/examples/{name}.rs"))),
            };
            seen[kind] += 1;
            if !is_there {
                missing.push(format!("{path}: {claim:?}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen.iter().all(|count| *count > 0), "of one kind nothing was found: {seen:?}");
}

/// The words in backticks. In code blocks, the lines that call make or an example.
fn words(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 1 {
            found.extend(
                part.lines().map(str::trim).filter(|line| line.starts_with("make ") || line.contains("--example ")),
            );
        } else {
            found.extend(part.split('`').skip(1).step_by(2));
        }
    }
    found
}

fn claimed(word: &str) -> Option<Claim<'_>> {
    let name = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if let Some(rest) = word.strip_prefix("make ") {
        let target = rest.split_whitespace().next()?;
        return target.starts_with(|c: char| c.is_ascii_lowercase()).then_some(Claim::Target(target));
    }
    if let Some((_, example)) = word.split_once("--example ") {
        let example = example.split_whitespace().next()?;
        return example.starts_with(|c: char| c.is_ascii_lowercase()).then_some(Claim::Example(example));
    }
    let path = METHODS.iter().find_map(|method| word.strip_prefix(method)).unwrap_or(word);
    if path.starts_with('/') {
        return Some(Claim::Route(path.split([' ', '?']).next()?)).filter(|_| path.len() > 1);
    }
    let first = word.split(['=', '{', ' ']).next()?;
    let capitals = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if first.contains('_') && first.chars().all(capitals) {
        return Some(Claim::Setting(first));
    }
    if is_metric(first) {
        return Some(Claim::Metric(first));
    }
    let file = word.split("::").next()?.trim_end_matches('/');
    let in_folder = FOLDERS.iter().any(|folder| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
    let is_file =
        file.chars().all(name) && (in_folder || ENDINGS.iter().any(|ending| file.ends_with(ending) && file != *ending));
    is_file.then_some(Claim::File(file))
}

/// All names that exist.
struct Known {
    files: BTreeSet<String>,
    targets: BTreeSet<String>,
    settings: BTreeSet<String>,
    metrics: String,
    tables: String,
    routes: BTreeSet<String>,
    sources: String,
}

impl Known {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = std::fs::read_dir(root).expect("the root");
        let at_root = folder.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        let inside: Vec<String> = FOLDERS.iter().flat_map(|folder| paths(folder)).collect();
        let texts = |folder: &str, ending: &str| -> String {
            files(folder, ending).iter().map(|source| source.text.as_str()).collect()
        };
        let document: Value = serde_json::from_str(&read("openapi/openapi.json")).expect("JSON");
        Self {
            targets: read("Makefile").lines().filter_map(|line| Some(line.split_once(": ##")?.0.to_owned())).collect(),
            settings: words_of(
                &[
                    read(".env.example"),
                    read(".cargo/config.toml"),
                    texts("scripts", ".sh"),
                    texts("tests/support", ".rs"),
                    texts("crates/aside-testkit", ".rs"),
                ]
                .concat(),
            ),
            metrics: read("docs/metrics.md"),
            tables: ["migrations", "crates/aside-cache/migrations", "adopt/migrations"]
                .map(|folder| texts(folder, ".sql"))
                .concat(),
            routes: document["paths"].as_object().expect("paths").keys().cloned().collect(),
            sources: [texts("src", ".rs"), texts("crates", ".rs")].concat(),
            files: at_root.chain(inside).collect(),
        }
    }

    /// Whether a file exists. Documents name it from the root, from their own folder, or by the end
    /// of its path.
    fn has_file(&self, name: &str, document: &str) -> bool {
        let folder = Path::new(document).parent().expect("a folder").to_string_lossy().into_owned();
        let beside = format!("{folder}/{name}");
        let is = |path: &String| {
            path == name
                || *path == beside
                || path.ends_with(&format!("/{name}"))
                || path.starts_with(&format!("{name}/"))
                || path.starts_with(&format!("{beside}/"))
        };
        self.files.iter().any(is)
    }

    /// Tables and functions of the ledger have the same prefixes as metrics.
    fn has_metric(&self, name: &str) -> bool {
        let plain = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        self.metrics.contains(&format!("`{plain}`"))
            || self.tables.contains(name)
            || self.has_file(&format!("{name}.rs"), "README.md")
    }

    /// Routes outside the API document are literals of the code.
    fn has_route(&self, route: &str) -> bool {
        let route = route.trim_end_matches('/');
        self.routes.contains(route) || self.sources.contains(&format!("\"{route}\""))
    }
}

fn words_of(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned).collect()
}

#[test]
fn links_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut seen, mut missing) = (0, Vec::new());
    for Source { path, text } in documents() {
        let folder = root.join(Path::new(&path).parent().expect("a folder"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            seen += 1;
            if !folder.join(link).exists() {
                missing.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen > 50, "only {seen} links were found");
}

#[test]
fn claims_are_told_apart() {
    for (word, claim) in [
        (
            "crates/aside-cache/src/consistency/freshness.rs",
            Some(Claim::File("crates/aside-cache/src/consistency/freshness.rs")),
        ),
        ("tests/contract", Some(Claim::File("tests/contract"))),
        ("make adopt DIR=../invoices", Some(Claim::Target("adopt"))),
        ("CACHE_L1_BYTES=0", Some(Claim::Setting("CACHE_L1_BYTES"))),
        ("cache_requests_total{outcome=\"stale\"}", Some(Claim::Metric("cache_requests_total"))),
        ("POST /cache/erase {\"tenant\": \"acme\"}", Some(Claim::Route("/cache/erase"))),
        ("/cache/entry?name=", Some(Claim::Route("/cache/entry"))),
        ("cargo run --example tags", Some(Claim::Example("tags"))),
        ("Cache-Control", None),
        ("ttl=-1", None),
        ("INFO", None),
        ("/", None),
    ] {
        assert_eq!(claimed(word), claim, "{word}");
    }
    let known = Known::read();
    assert!(!known.has_file("crates/aside-cache/src/nowhere.rs", "README.md") && !known.has_route("/cache/nowhere"));
    assert!(!known.has_metric("cache_nothing_total") && !known.settings.contains("CACHE_L1"));
    assert!(!known.targets.contains("nothing") && known.targets.contains("adopt"));
}
