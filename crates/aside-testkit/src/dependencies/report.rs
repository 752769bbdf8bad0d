//! The findings of the dependency check, for the developer who forgot a tag.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use super::{change::Change, tags::expected};

/// The longest list of tags in a finding.
const MAX_TAGS: usize = 4;

/// An answer that a change made wrong, although a cache would still serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The change, such as `products.price_cents`.
    pub change: String,
    /// The name of the load.
    pub load: String,
    /// The tags of the answer, one of which should have risen.
    pub expected: Vec<String>,
    /// The explanation.
    pub message: String,
}

impl Finding {
    pub(super) fn new(change: &Change, load: &str, tags: &[String], raised: &[String], sources: &[PathBuf]) -> Self {
        let expected = expected(tags, &change.values);
        let some = |tags: &[String]| match tags {
            [] => "none".to_owned(),
            tags if tags.len() <= MAX_TAGS => tags.join(", "),
            tags => format!("{}, … ({} in all)", tags[..MAX_TAGS].join(", "), tags.len()),
        };
        let message = format!(
            "{} changes the answer of `{load}`, and none of its tags rose.\n    the change: {}\n    should have risen: {}\n    raised: {}\n    declared: {}",
            change.name,
            change.sql.trim(),
            some(&expected),
            some(raised),
            change
                .table
                .as_deref()
                .map_or("by the `invalidate`s of the write".to_owned(), |table| declaration(table, sources)),
        );
        Self { change: change.name.clone(), load: load.to_owned(), expected, message }
    }

    /// A load whose answers differ although nothing has changed.
    pub(super) fn of_itself(load: &str) -> Self {
        let message = format!(
            "the answer of `{load}` differs from one load to the next although nothing changed: it contains a time or \
             another value of the statement. Leave it out of the cached value"
        );
        Self { change: "nothing".into(), load: load.into(), expected: Vec::new(), message }
    }

    /// A load that the check can't judge.
    pub(super) fn without_change(load: &str) -> Self {
        let message = format!("no change affects the answer of `{load}`: the test's data have no row that it reads");
        Self { change: "none".into(), load: load.into(), expected: Vec::new(), message }
    }

    /// An exception that hides nothing now and might hide something later.
    pub(super) fn vain_exception(load: &str, change: &str) -> Self {
        let message = format!("the exception for `{change}` in `{load}` was not needed: remove it");
        Self { change: change.into(), load: load.into(), expected: Vec::new(), message }
    }
}

/// Where a table is declared: file, line and text, or the advice to declare it.
fn declaration(table: &str, sources: &[PathBuf]) -> String {
    let call = format!("cache_track('{table}'");
    let mut files = Vec::new();
    sources.iter().for_each(|source| list_files(source, &mut files));
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if let Some((at, line)) = text.lines().enumerate().find(|(_, line)| line.contains(&call) && !is_comment(line)) {
            return format!("{}:{}: {}", file.display(), at + 1, line.trim());
        }
    }
    format!("no {call}, tags => …) was found, so only the writes of the service invalidate changes of {table}")
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("--") || line.starts_with("//")
}

fn list_files(path: &Path, files: &mut Vec<PathBuf>) {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().for_each(|entry| list_files(&entry.path(), files)),
        Err(_) => files.push(path.to_owned()),
    }
}

/// The result of a dependency check.
#[derive(Debug, Default)]
pub struct Report {
    /// The answers that would be served wrong, at most one for each change and load.
    pub findings: Vec<Finding>,
    /// The number of changes that the database accepted.
    pub changes: usize,
    /// The names of the changes that affected an answer.
    pub effective: BTreeSet<String>,
    /// The loads whose answers some change affected.
    pub(super) changed: BTreeSet<String>,
    /// The exceptions that were needed.
    pub(super) needed: BTreeSet<usize>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        let is_known = |known: &Finding| known.change == finding.change && known.load == finding.load;
        if !self.findings.iter().any(is_known) {
            self.findings.push(finding);
        }
    }

    /// Panics with all findings if there are any.
    ///
    /// # Panics
    /// If a tag was forgotten, or if the check could not judge a load.
    pub fn assert_complete(&self) {
        assert!(self.findings.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} changes, of which {} kinds affect an answer", self.changes, self.effective.len())?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "{}", finding.message))
    }
}
