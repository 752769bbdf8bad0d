//! Finds an item of a file by its name.
//!
//! * `file`: the whole file, in every language.
//! * Rust: a keyword (`fn`, `const`, `static`, `struct`, `enum`, `trait` or `mod`) and a name.
//! * Rust, items of an `impl`, a trait or an inline module: the name includes that of the owner, as
//!   in `fn Freshness::judge` or `fn tests::begins`. If the type is ambiguous, the name includes
//!   the trait, as in `fn <Form as Display>::fmt`.
//! * Rust, blocks: `impl Freshness` or `impl Display for Form`.
//! * SQL: the first words of a statement without `create [or replace] [unlogged]`, as in
//!   `function cache_raise`.
//!
//! Only the last name of a path counts, and generics are left out.

use std::ops::Range;

use super::tokens::{Language, Token, tokens};

/// The range of the item's tokens. Fails unless there is exactly one item of that name.
pub fn find(source: &[Token<'_>], language: Language, item: &str) -> Result<Range<usize>, String> {
    if item == "file" {
        return Ok(0..source.len());
    }
    let found: Vec<Range<usize>> = match language {
        Language::Rust => {
            let mut walk = Walk { source, found: Vec::new() };
            walk.items(0..source.len(), &Owner::default())?;
            let named = walk.found.into_iter().filter(|found| found.names.iter().any(|name| name == item));
            named.map(|found| found.range).collect()
        }
        Language::Sql => statements(source).into_iter().filter(|range| begins(&source[range.clone()], item)).collect(),
        Language::Lua | Language::Other => return Err(format!("this language has no `{item}`, only `file`")),
    };
    match &found[..] {
        [range] => Ok(range.clone()),
        [] => Err(format!("there is no `{item}`")),
        _ => Err(format!("there are {} of `{item}`", found.len())),
    }
}

struct Item {
    /// All names of the item.
    names: Vec<String>,
    range: Range<usize>,
}

/// The block that an item belongs to.
#[derive(Default)]
struct Owner {
    /// The name of a type, a trait or a module.
    name: Option<String>,
    /// The trait that the type implements there.
    of_trait: Option<String>,
}

impl Owner {
    fn names(&self, kind: &str, name: &str) -> Vec<String> {
        match (&self.name, &self.of_trait) {
            (None, _) => vec![format!("{kind} {name}")],
            (Some(owner), None) => vec![format!("{kind} {owner}::{name}")],
            (Some(owner), Some(of)) => {
                vec![format!("{kind} {owner}::{name}"), format!("{kind} <{owner} as {of}>::{name}")]
            }
        }
    }
}

/// Walks through Rust code and collects the items.
struct Walk<'a> {
    source: &'a [Token<'a>],
    found: Vec<Item>,
}

impl<'a> Walk<'a> {
    fn items(&mut self, range: Range<usize>, owner: &Owner) -> Result<(), String> {
        let mut at = range.start;
        while at < range.end {
            at = self.item(at, owner)?;
        }
        Ok(())
    }

    /// Collects the item that begins here, if one does. Returns the place after it.
    fn item(&mut self, at: usize, owner: &Owner) -> Result<usize, String> {
        let name = self.word(at + 1);
        match (self.code(at), name, self.code(at + 2)) {
            // Without a name it is a type: `fn(u8)`.
            ("fn", Some(name), "(" | "<") => {
                let body = self.next(at, &["{", ";"])?;
                let end = self.end_of(body)?;
                self.note(owner.names("fn", name), at..end);
                self.items(body + 1..end, &Owner::default())?;
                Ok(end)
            }
            ("impl", ..) => {
                let body = self.next(at, &["{"])?;
                let end = self.end_of(body)?;
                let implemented = self.implemented(at + 1, body);
                let Some(name) = implemented.name.clone() else { return Ok(end) };
                let block = match &implemented.of_trait {
                    Some(of) => format!("impl {of} for {name}"),
                    None => format!("impl {name}"),
                };
                self.note(vec![block], at..end);
                self.items(body + 1..end, &implemented)?;
                Ok(end)
            }
            (kind @ ("trait" | "mod" | "struct" | "enum"), Some(name), _) => {
                let body = self.next(at, &["{", ";"])?;
                let end = self.end_of(body)?;
                self.note(owner.names(kind, name), at..end);
                if matches!(kind, "trait" | "mod") {
                    self.items(body + 1..end, &Owner { name: Some(name.to_owned()), of_trait: None })?;
                }
                Ok(end)
            }
            (kind @ ("const" | "static"), Some(name), ":") => {
                let end = self.next(at, &[";"])? + 1;
                self.note(owner.names(kind, name), at..end);
                Ok(end)
            }
            _ => Ok(at + 1),
        }
    }

    fn note(&mut self, names: Vec<String>, range: Range<usize>) {
        self.found.push(Item { names, range });
    }

    /// The text of the token, or an empty one inside of strings.
    fn code(&self, at: usize) -> &'a str {
        self.source.get(at).filter(|token| !token.in_string).map_or("", |token| token.text)
    }

    fn word(&self, at: usize) -> Option<&'a str> {
        Some(self.code(at)).filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
    }

    /// The place of the first of these tokens, outside of other brackets.
    fn next(&self, mut at: usize, wanted: &[&str]) -> Result<usize, String> {
        while at < self.source.len() {
            let code = self.code(at);
            if wanted.contains(&code) {
                return Ok(at);
            }
            at = if matches!(code, "(" | "[" | "{") { self.end_of(at)? } else { at + 1 };
        }
        Err(format!("nothing ends an item: none of {wanted:?}"))
    }

    /// The place after the bracket that closes this one. If a semicolon is here, the place after
    /// it.
    fn end_of(&self, mut at: usize) -> Result<usize, String> {
        let mut depth = 0_usize;
        loop {
            match self.code(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return Ok(at);
            }
            if at >= self.source.len() {
                return Err("a bracket isn't closed".to_owned());
            }
        }
    }

    /// The type and the trait of an `impl` block, read from its head.
    fn implemented(&self, mut start: usize, end: usize) -> Owner {
        if self.code(start) == "<" {
            let mut depth = 0;
            while start < end {
                depth += self.angle(start);
                start += 1;
                if depth == 0 {
                    break;
                }
            }
        }
        let end = (start..end).find(|at| self.code(*at) == "where").unwrap_or(end);
        // The `for` of `for<'a>` is not the one between trait and type.
        match (start..end).find(|at| self.code(*at) == "for" && self.code(at + 1) != "<") {
            Some(split) => Owner { name: self.last_name(split + 1..end), of_trait: self.last_name(start..split) },
            None => Owner { name: self.last_name(start..end), of_trait: None },
        }
    }

    /// The last name of a path, without generics.
    fn last_name(&self, range: Range<usize>) -> Option<String> {
        let (mut depth, mut name) = (0, None);
        for at in range {
            depth += self.angle(at);
            let is_lifetime = at > 0 && self.code(at - 1) == "'";
            if depth == 0 && !is_lifetime {
                name = self.word(at).filter(|word| !matches!(*word, "mut" | "dyn")).map(str::to_owned).or(name);
            }
        }
        name
    }

    fn angle(&self, at: usize) -> i32 {
        match self.code(at) {
            "<" => 1,
            ">" => -1,
            _ => 0,
        }
    }
}

/// The statements of an SQL file.
fn statements(source: &[Token<'_>]) -> Vec<Range<usize>> {
    let (mut found, mut start, mut is_atomic) = (Vec::new(), 0, false);
    for (at, token) in source.iter().enumerate().filter(|(_, token)| !token.in_string) {
        let next = source.get(at + 1).map(|next| next.text);
        match token.text {
            // The body of such a function has semicolons too.
            "atomic" => is_atomic = true,
            "end" if next == Some(";") => is_atomic = false,
            ";" if !is_atomic => {
                found.push(start..at + 1);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Whether a statement begins with these words.
fn begins(statement: &[Token<'_>], words: &str) -> bool {
    let mut texts: &[Token<'_>] = statement;
    for skipped in ["create", "or", "replace", "unlogged"] {
        texts = texts.split_first().filter(|(first, _)| first.text == skipped).map_or(texts, |(_, rest)| rest);
    }
    let words = tokens(words, Language::Sql);
    texts.len() >= words.len() && words.iter().zip(texts).all(|(word, token)| word.text == token.text)
}
