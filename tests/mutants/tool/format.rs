//! Reads a mutant's file. It reads only the part of TOML that the files of `tests/mutants` need,
//! and returns an error for anything else.
//!
//! That part is comments, `[[edit]]`, and keys. The value of a key is a text (`"…"` and `'…'` in
//! one line, `'''…'''` over several), a list of texts, or `true` or `false`. Texts have no escapes.
//! Line breaks at the beginning and the end of a text are left out.

use super::mutant::{Edit, Mutant};

/// Reads the text of a mutant's file. Does not set the name of the mutant.
pub fn parse(text: &str) -> Result<Mutant, String> {
    let mut mutant = Mutant::default();
    let mut rest = skip(text);
    while !rest.is_empty() {
        let at = |error: String| format!("line {}: {error}", text[..text.len() - rest.len()].matches('\n').count() + 1);
        let after = match rest.strip_prefix("[[edit]]") {
            Some(after) => {
                mutant.edits.push(Edit::default());
                after
            }
            None => assignment(rest, &mut mutant).map_err(at)?,
        };
        let (line, _) = after.split_once('\n').unwrap_or((after, ""));
        if !skip(line).is_empty() {
            return Err(at(format!("`{line}` is too much")));
        }
        rest = skip(after);
    }
    complete(mutant)
}

enum Value {
    Text(String),
    List(Vec<String>),
    Flag(bool),
}

/// Reads `key = value`. Returns the rest of the text.
fn assignment<'a>(text: &'a str, mutant: &mut Mutant) -> Result<&'a str, String> {
    let (key, rest) = text.split_once('=').ok_or("a key without a value")?;
    let (value, rest) = value(rest.trim_start())?;
    let key = key.trim();
    let unknown = || Err(format!("`{key}` is no key, or has a value of another kind"));
    let place = match (mutant.edits.last_mut(), key) {
        (None, "rule") => &mut mutant.rule,
        (None, "promise") => &mut mutant.promise,
        (Some(edit), "file") => &mut edit.file,
        (Some(edit), "item") => &mut edit.item,
        (Some(edit), "find") => &mut edit.find,
        (Some(edit), "replace") => edit.replace.get_or_insert_default(),
        (None, "caught_by") => match value {
            Value::List(tests) => {
                mutant.caught_by = tests;
                return Ok(rest);
            }
            _ => return unknown(),
        },
        (None, "quick") => match value {
            Value::Flag(quick) => {
                mutant.quick = quick;
                return Ok(rest);
            }
            _ => return unknown(),
        },
        _ => return unknown(),
    };
    match value {
        Value::Text(_) if !place.is_empty() => Err(format!("`{key}` is given twice")),
        Value::Text(text) => {
            *place = text;
            Ok(rest)
        }
        _ => unknown(),
    }
}

/// Reads a value. Returns it with the rest of the text.
fn value(text: &str) -> Result<(Value, &str), String> {
    if let Some(inside) = text.strip_prefix('[') {
        let (mut list, mut rest) = (Vec::new(), skip(inside));
        loop {
            if let Some(after) = rest.strip_prefix(']') {
                return Ok((Value::List(list), after));
            }
            let (Value::Text(item), after) = value(rest)? else { return Err("a list holds texts only".to_owned()) };
            list.push(item);
            let after = skip(after);
            rest = match after.strip_prefix(',') {
                Some(after) => skip(after),
                None if after.starts_with(']') => after,
                None => return Err("a list lacks a comma or its end".to_owned()),
            };
        }
    }
    for (word, flag) in [("true", true), ("false", false)] {
        if let Some(after) = text.strip_prefix(word) {
            return Ok((Value::Flag(flag), after));
        }
    }
    let mark = ["'''", "'", "\""].into_iter().find(|mark| text.starts_with(mark)).ok_or("a value is missing")?;
    let (inside, after) = text[mark.len()..].split_once(mark).ok_or_else(|| format!("a text lacks its end: {mark}"))?;
    if mark != "'''" && inside.contains('\n') {
        return Err("a text of several lines stands between ''' and '''".to_owned());
    }
    if mark == "\"" && inside.contains('\\') {
        return Err("there are no escapes: take '…' or '''…'''".to_owned());
    }
    Ok((Value::Text(inside.trim_matches('\n').to_owned()), after))
}

/// Skips spaces and comments.
fn skip(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix('#') {
            Some(comment) => text = comment.split_once('\n').map_or("", |(_, after)| after),
            None => return text,
        }
    }
}

/// Fails if a required key is missing. An edit may have an empty replacement.
fn complete(mutant: Mutant) -> Result<Mutant, String> {
    let missing = |name: &str| Err(format!("`{name}` is missing"));
    let Mutant { rule, promise, caught_by, edits, .. } = &mutant;
    for (name, is_missing) in [
        ("rule", rule.is_empty()),
        ("promise", promise.is_empty()),
        ("caught_by", caught_by.is_empty()),
        ("[[edit]]", edits.is_empty()),
        ("file", edits.iter().any(|edit| edit.file.is_empty())),
        ("item", edits.iter().any(|edit| edit.item.is_empty())),
        ("find", edits.iter().any(|edit| edit.find.is_empty())),
        ("replace", edits.iter().any(|edit| edit.replace.is_none())),
    ] {
        if is_missing {
            return missing(name);
        }
    }
    Ok(mutant)
}
