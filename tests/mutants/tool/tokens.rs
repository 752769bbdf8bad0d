//! Splits source text into tokens. Whitespace, line breaks, comments and trailing commas make no
//! difference.
//!
//! The text of a string is split into tokens too, so that SQL in it can be searched like code.
//! Every token that is not a word is one of [`OPERATORS`] or a single character.

/// The language of a file, which determines its comments and strings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Language {
    Rust,
    /// SQL of Postgres.
    Sql,
    Lua,
    /// Shell, YAML and TOML: lines that begin with `#` are comments, and strings are not treated
    /// separately.
    Other,
}

impl Language {
    /// The language of a file, by its name.
    pub fn of(path: &str) -> Self {
        match path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("rs") => Self::Rust,
            Some("sql") => Self::Sql,
            Some("lua") => Self::Lua,
            _ => Self::Other,
        }
    }

    fn line_comment(self) -> Option<&'static str> {
        match self {
            Self::Rust => Some("//"),
            Self::Sql | Self::Lua => Some("--"),
            Self::Other => None,
        }
    }
}

/// Operators of several characters, the longer ones first.
const OPERATORS: [&str; 13] = ["..=", "<=>", "==", "!=", "<=", ">=", "=>", "->", "&&", "||", "::", "..", "<>"];

/// A word, a number or a punctuation mark.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub text: &'a str,
    /// The byte at which it begins.
    pub start: usize,
    /// Whether it is part of a string. Brackets in strings do not count as brackets of the code.
    pub in_string: bool,
}

impl Token<'_> {
    /// The byte after the token.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The tokens of a text. In Rust, a comma before a closing bracket is left out.
pub fn tokens(text: &str, language: Language) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, language, at: 0, string: None, found: Vec::new() };
    while lexer.step() {}
    let mut found = lexer.found;
    if language == Language::Rust {
        let is_trailing = |at: usize| {
            found[at].text == ","
                && !found[at].in_string
                && found.get(at + 1).is_some_and(|next| !next.in_string && [")", "]", "}", ">"].contains(&next.text))
        };
        let kept: Vec<bool> = (0..found.len()).map(|at| !is_trailing(at)).collect();
        let mut kept = kept.into_iter();
        found.retain(|_| kept.next().unwrap_or(true));
    }
    found
}

/// A string whose end has not been reached.
struct OpenString {
    /// The mark that ends the string.
    closing: String,
    /// Whether `\` is an ordinary character.
    is_raw: bool,
}

struct Lexer<'a> {
    text: &'a str,
    language: Language,
    at: usize,
    string: Option<OpenString>,
    found: Vec<Token<'a>>,
}

impl<'a> Lexer<'a> {
    /// Moves past one token, space or comment. Returns `false` at the end.
    fn step(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return false };
        if first.is_whitespace() {
            self.at += first.len_utf8();
            return true;
        }
        match self.string.take() {
            None => self.step_in_code(rest),
            Some(string) => self.step_in_string(rest, string),
        }
        true
    }

    fn step_in_code(&mut self, rest: &'a str) {
        if let Some(length) = self.comment(rest) {
            self.at += length;
        } else if let Some(length) = character(rest).filter(|_| self.language == Language::Rust) {
            self.take(length, true);
        } else if let Some((length, string)) = self.opening(rest) {
            self.take(length, true);
            self.string = Some(string);
        } else {
            self.take(token_length(rest), false);
        }
    }

    fn step_in_string(&mut self, rest: &'a str, string: OpenString) {
        if !string.is_raw && rest.starts_with("\\\n") {
            // The string continues in the next line, and the line break is not part of it.
            self.at += 1;
        } else if !string.is_raw && rest.starts_with('\\') {
            // The escaped character does not end the string.
            let next = rest.chars().nth(1).filter(|next| !next.is_alphanumeric());
            self.take(1 + next.map_or(0, char::len_utf8), true);
        } else if rest.starts_with(&string.closing) {
            self.take(string.closing.len(), true);
            return;
        } else if self.language == Language::Sql && string.closing != "'" && rest.starts_with("--") {
            // The body of a function has comments.
            self.at += line_length(rest);
        } else {
            self.take(token_length(rest), true);
        }
        self.string = Some(string);
    }

    /// Takes all tokens of the next `length` bytes.
    fn take(&mut self, length: usize, in_string: bool) {
        let end = self.at + length;
        while self.at < end {
            let rest = &self.text[self.at..end];
            let length = token_length(rest);
            if !rest.starts_with(char::is_whitespace) {
                self.found.push(Token { text: &rest[..length], start: self.at, in_string });
            }
            self.at += length;
        }
    }

    /// The length of the comment that begins here.
    fn comment(&self, rest: &str) -> Option<usize> {
        if self.language.line_comment().is_some_and(|mark| rest.starts_with(mark)) {
            return Some(line_length(rest));
        }
        if matches!(self.language, Language::Rust | Language::Sql) && rest.starts_with("/*") {
            return Some(rest.find("*/").map_or(rest.len(), |at| at + 2));
        }
        let before = self.text[..self.at].rsplit('\n').next().unwrap_or_default();
        let begins_line = self.language == Language::Other && rest.starts_with('#') && before.trim().is_empty();
        begins_line.then(|| line_length(rest))
    }

    /// The length of the opening mark of the string that begins here, and the string.
    fn opening(&self, rest: &str) -> Option<(usize, OpenString)> {
        let string = |length, closing: &str, is_raw| Some((length, OpenString { closing: closing.to_owned(), is_raw }));
        match self.language {
            Language::Rust if rest.starts_with('"') => string(1, "\"", false),
            Language::Rust => {
                let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
                let hashes = raw.len() - raw.trim_start_matches('#').len();
                let begins = raw[hashes..].starts_with('"');
                begins.then(|| string(rest.len() - raw.len() + hashes + 1, &format!("\"{}", &raw[..hashes]), true))?
            }
            Language::Sql if rest.starts_with('\'') => string(1, "'", true),
            Language::Sql => {
                let (tag, _) = rest.strip_prefix('$')?.split_once('$')?;
                let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_');
                is_tag.then(|| string(tag.len() + 2, &rest[..tag.len() + 2], true))?
            }
            Language::Lua if rest.starts_with(['"', '\'']) => string(1, &rest[..1], false),
            Language::Lua | Language::Other => None,
        }
    }
}

/// The length of the Rust character literal that begins here, such as `'x'`. A lifetime is not one.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    let length = match inside.strip_prefix('\\') {
        Some(escape) => {
            let first = escape.chars().next()?.len_utf8();
            // The longest escape is `\u{10FFFF}`.
            1 + first + escape[first..].find('\'').filter(|at| *at < 10)?
        }
        None => inside.chars().next().filter(|c| *c != '\'')?.len_utf8(),
    };
    inside[length..].starts_with('\'').then_some(length + 2)
}

fn token_length(rest: &str) -> usize {
    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let operator = || OPERATORS.iter().find(|operator| rest.starts_with(**operator)).map(|operator| operator.len());
    match word {
        0 => operator().unwrap_or_else(|| rest.chars().next().map_or(0, char::len_utf8)),
        word => word,
    }
}

fn line_length(rest: &str) -> usize {
    rest.find('\n').unwrap_or(rest.len())
}
