//! The tests that every test named by a promise exists. A promise names it as `tests/…::name` or by
//! its file.

use super::sources::{Source, files, read};

#[test]
fn every_test_that_a_document_or_comment_names_exists() {
    let mut places = files("src", ".rs");
    places.extend(files("crates", ".rs"));
    places.extend(files("docs", ".md"));
    places.extend(files("tests", ".md"));
    places.extend(files("migrations", ".sql"));
    let root = ["README.md", "CONTRIBUTING.md", "DECISIONS.md"].map(|path| (path.to_owned(), read(path)));
    let texts = places.into_iter().map(|source| (source.path, source.text)).chain(root);
    let (mut named, mut missing) = (0, Vec::new());
    for (path, text) in texts {
        for name in names(&text) {
            named += 1;
            if !exists(&name) {
                missing.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named > 0, "no document names a test");
}

/// `tests/…::name` and `tests/….rs` in a text.
fn names(text: &str) -> Vec<String> {
    // The tests of a copy that `make adopt` makes are in another folder.
    let own = |at: usize| !text[..at].ends_with("adopt/");
    let part = |c: char| c.is_alphanumeric() || "_/.:-".contains(c);
    let starts = text.match_indices("tests/").filter(|(at, _)| own(*at));
    let full = starts.map(|(at, _)| {
        // The tests of a package are below its own folder.
        let begin = text[..at].rfind(|c: char| !part(c)).map_or(0, |before| before + 1);
        let end = text[at..].find(|c: char| !part(c)).map_or(text.len(), |after| at + after);
        text[begin..end].trim_end_matches([':', '.']).to_owned()
    });
    full.filter(|name| name.contains("::") || name.ends_with(".rs")).collect()
}

/// Whether a file, folder or module has a test of that name.
fn exists(name: &str) -> bool {
    if name.ends_with(".rs") {
        return all().iter().any(|source| source.path == name);
    }
    let mut segments: Vec<&str> = name.split("::").collect();
    let test = segments.pop().unwrap_or_default();
    let place = segments.join("/");
    let place = place.trim_end_matches(".rs");
    let function = format!("fn {test}(");
    let inside = |path: &str| {
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
        path == place || path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
    };
    all().iter().any(|source| inside(&source.path) && source.text.contains(&function))
}

/// The files that may have tests.
fn all() -> Vec<Source> {
    ["tests", "crates", "tools"].iter().flat_map(|folder| files(folder, ".rs")).collect()
}

#[test]
fn names_are_found_and_looked_up() {
    let text = "See `tests/contract/documents.rs::names_are_found_and_looked_up`, tests/contract::nowhere, tests/README.md, tests/no.rs.";
    assert_eq!(
        names(text),
        ["tests/contract/documents.rs::names_are_found_and_looked_up", "tests/contract::nowhere", "tests/no.rs"]
    );
    assert_eq!(names(text).iter().map(|name| exists(name)).collect::<Vec<_>>(), [true, false, false]);
}
