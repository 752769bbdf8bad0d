//! Reads files of the tree.

use std::{fs, path::Path};

/// The prefixes of the service's metrics. A test checks that every metric has one of them.
pub const METRICS: [&str; 10] =
    ["aside_build_", "audit_", "cache_", "cdn_", "database_", "http_", "log_", "process_", "replica_", "tokio_"];

/// Whether a word has the form of a metric's name.
pub fn is_metric(name: &str) -> bool {
    METRICS.iter().any(|prefix| name.starts_with(prefix))
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A file of the tree.
pub struct Source {
    /// The path from the root of the repository, with `/`.
    pub path: String,
    /// The contents of the file.
    pub text: String,
}

impl Source {
    /// The code without comments and without the unit tests at its end.
    pub fn code(&self) -> String {
        let shipped = self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = shipped.lines().map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// All files below `folder` whose names have this ending. Panics if there are none, because every
/// rule holds for the files of an empty folder.
pub fn files(folder: &str, ending: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(root, &root.join(folder), ending, &mut found);
    assert!(!found.is_empty(), "{folder} holds no file that ends with {ending}");
    let read = |path: String| Source { text: read(&path), path };
    let mut found: Vec<Source> = found.into_iter().map(read).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The paths of all files below `folder`, from the root of the repository.
pub fn paths(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(root, &root.join(folder), "", &mut found);
    found
}

/// The contents of one file. The path is from the root of the repository.
pub fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Folders that tools fill. They are not part of the tree.
const FOREIGN: [&str; 2] = ["node_modules", "target"];

fn collect(root: &Path, folder: &Path, ending: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder's entry").path();
        if path.is_dir() {
            if !FOREIGN.iter().any(|name| path.ends_with(name)) {
                collect(root, &path, ending, found);
            }
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path.strip_prefix(root).expect("inside the root").to_string_lossy().replace('\\', "/"));
        }
    }
}
