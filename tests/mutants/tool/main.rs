//! The program of `scripts/prove.sh`. It lists, checks and applies the mutants of the tree in the
//! current folder.
//!
//! It uses only the standard library, so the script compiles it with `rustc` in a second.

use std::{env, fs, path::Path, process::ExitCode};

mod format;
mod items;
mod mutant;
mod tokens;

use mutant::Mutant;

const USAGE: &str = "mutants list [quick] | check [NAME…] | get rule|promise|caught_by NAME | apply NAME TREE";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(Path::new("."), &arguments) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command. Returns the lines to print, or the errors.
fn run(root: &Path, arguments: &[&str]) -> Result<Vec<String>, Vec<String>> {
    let load = |name: &str| Mutant::load(root, name).map_err(|error| vec![error]);
    match arguments {
        ["list"] => mutant::names(root).map_err(|error| vec![error]),
        ["list", "quick"] => {
            let mut names = run(root, &["list"])?;
            let mut errors = Vec::new();
            names.retain(|name| {
                Mutant::load(root, name).map(|mutant| mutant.quick).unwrap_or_else(|error| {
                    errors.push(error);
                    false
                })
            });
            if errors.is_empty() { Ok(names) } else { Err(errors) }
        }
        ["check"] => check(root, &run(root, &["list"])?),
        ["check", names @ ..] => check(root, names),
        ["get", "rule", name] => Ok(vec![load(name)?.rule]),
        ["get", "promise", name] => Ok(vec![load(name)?.promise]),
        ["get", "caught_by", name] => Ok(load(name)?.caught_by),
        ["apply", name, tree] => apply(&load(name)?, Path::new(tree)).map_err(|error| vec![error]),
        _ => Err(vec![USAGE.to_owned()]),
    }
}

/// Fails unless each of the mutants can be made. Changes nothing.
fn check(root: &Path, names: &[impl AsRef<str>]) -> Result<Vec<String>, Vec<String>> {
    let made = |name: &str| Mutant::load(root, name)?.changed_files(root);
    let errors: Vec<String> = names.iter().filter_map(|name| made(name.as_ref()).err()).collect();
    if errors.is_empty() { Ok(Vec::new()) } else { Err(errors) }
}

/// Makes the mutant in `tree`.
fn apply(mutant: &Mutant, tree: &Path) -> Result<Vec<String>, String> {
    for (path, text) in mutant.changed_files(tree)? {
        fs::write(tree.join(&path), text).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(Vec::new())
}
