//! A mutant, and the files that it changes.

use std::{collections::BTreeMap, fs, ops::Range, path::Path};

use super::{
    format, items,
    tokens::{Language, Token, tokens},
};

/// The folder of the mutants' files.
const FOLDER: &str = "tests/mutants";

/// A change of the code that breaks one rule.
#[derive(Debug, Default)]
pub struct Mutant {
    /// The name of its file, without the ending.
    pub name: String,
    /// The rule of the code that the mutant breaks.
    pub rule: String,
    /// The promise to users that depends on the rule.
    pub promise: String,
    /// The tests that must fail: package, target (`lib` or the name of a test binary) and the name
    /// that `cargo test` prints.
    pub caught_by: Vec<String>,
    /// Whether the mutant is part of the short run.
    pub quick: bool,
    /// Its changes, all of which are made together.
    pub edits: Vec<Edit>,
}

/// Replaces one expression.
#[derive(Debug, Default)]
pub struct Edit {
    /// The file, from the root of the repository.
    pub file: String,
    /// The item that has the expression, as [`items::find`] takes it.
    pub item: String,
    /// The expression. The item must have it exactly once.
    pub find: String,
    /// The replacement. It is empty if the mutant only removes the expression.
    pub replace: Option<String>,
}

/// The names of all mutants.
pub fn names(root: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(root.join(FOLDER)).map_err(|error| format!("{FOLDER}: {error}"))?;
    let files = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = files.filter_map(|file| Some(file.strip_suffix(".toml")?.to_owned())).collect();
    names.sort();
    Ok(names)
}

impl Mutant {
    /// Reads the mutant of that name.
    pub fn load(root: &Path, name: &str) -> Result<Self, String> {
        let path = format!("{FOLDER}/{name}.toml");
        let text = fs::read_to_string(root.join(&path)).map_err(|error| format!("{path}: {error}"))?;
        let mutant = format::parse(&text).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { name: name.to_owned(), ..mutant })
    }

    /// The files that it changes, with their new contents. Writes nothing.
    ///
    /// Fails if an item or an expression is not found exactly once, or if an edit changes nothing.
    pub fn changed_files(&self, root: &Path) -> Result<Vec<(String, String)>, String> {
        let mut by_file: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
        for edit in &self.edits {
            by_file.entry(&edit.file).or_default().push(edit);
        }
        let change = |(file, edits): (&str, Vec<&Edit>)| {
            let text = fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))?;
            Ok((file.to_owned(), changed(&text, &edits)?))
        };
        let files: Result<_, String> = by_file.into_iter().map(change).collect();
        files.map_err(|error| format!("{FOLDER}/{}.toml: {error}", self.name))
    }
}

/// The text after the edits. All edits are searched in the original text.
pub fn changed(text: &str, edits: &[&Edit]) -> Result<String, String> {
    let mut spans = Vec::new();
    for edit in edits {
        spans.push((edit.span(text).map_err(|error| format!("{}: {error}", edit.file))?, edit.replacement()));
    }
    spans.sort_by_key(|(span, _)| span.start);
    if spans.windows(2).any(|pair| pair[0].0.end > pair[1].0.start) {
        return Err(format!("{}: two edits change the same expression", edits[0].file));
    }
    let mut result = text.to_owned();
    for (span, replacement) in spans.into_iter().rev() {
        result.replace_range(span, replacement);
    }
    Ok(result)
}

impl Edit {
    fn replacement(&self) -> &str {
        self.replace.as_deref().unwrap_or_default()
    }

    /// The range of the expression in the text.
    fn span(&self, text: &str) -> Result<Range<usize>, String> {
        let language = Language::of(&self.file);
        let (source, find) = (tokens(text, language), tokens(&self.find, language));
        if find.is_empty() {
            return Err("`find` is empty".to_owned());
        }
        if same(&find, &tokens(self.replacement(), language)) {
            return Err(format!("`{}` is replaced by itself", self.find));
        }
        let item = items::find(&source, language, &self.item)?;
        let found: Vec<usize> = positions(&source, &find).filter(|at| is_inside(*at, &find, &item)).collect();
        match &found[..] {
            [first] => Ok(source[*first].start..source[first + find.len() - 1].end()),
            _ => Err(self.not_once(text, &source, &find, &item)),
        }
    }

    /// The error for an expression that the item does not have exactly once.
    fn not_once(&self, text: &str, source: &[Token<'_>], find: &[Token<'_>], item: &Range<usize>) -> String {
        let line = |at: usize| (text[..source[at].start].matches('\n').count() + 1).to_string();
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            positions(source, find).partition(|at| is_inside(*at, find, item));
        let lines = |found: Vec<usize>| found.into_iter().map(line).collect::<Vec<_>>().join(", ");
        match inside.len() {
            0 if outside.is_empty() => format!("{} doesn't have `{}`", self.item, self.find),
            0 => format!("{} doesn't have `{}`, but line {} does", self.item, self.find, lines(outside)),
            _ => format!("{} has `{}` more than once: lines {}", self.item, self.find, lines(inside)),
        }
    }
}

/// The index of each token at which the tokens of `find` begin.
fn positions<'a>(source: &'a [Token<'_>], find: &'a [Token<'_>]) -> impl Iterator<Item = usize> + 'a {
    source.windows(find.len()).enumerate().filter(|(_, window)| same(window, find)).map(|(at, _)| at)
}

/// Whether the match that begins at this token lies completely in the item.
fn is_inside(at: usize, find: &[Token<'_>], item: &Range<usize>) -> bool {
    item.start <= at && at + find.len() <= item.end
}

fn same(left: &[Token<'_>], right: &[Token<'_>]) -> bool {
    left.iter().map(|token| token.text).eq(right.iter().map(|token| token.text))
}
