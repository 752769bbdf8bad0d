//! Reading the tree's own files.

use std::{fs, path::Path};

/// How the names of the service's metrics begin; a test sees to it that all do.
pub const METRICS: [&str; 8] = ["audit_", "cache_", "cdn_", "database_", "http_", "log_", "replica_", "tokio_"];

/// Whether a word is the name of a metric, as far as its form tells.
pub fn is_metric(name: &str) -> bool {
    METRICS.iter().any(|prefix| name.starts_with(prefix))
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A file of the tree.
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// Its contents.
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

/// All files below `folder` whose names end so. There are some: what is said of all files of a folder that was moved would be true.
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

/// One file, from the root of the repository.
pub fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What tools leave in a folder is not the tree's own.
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
