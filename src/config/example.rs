//! Renders `.env.example` from the definitions, so that the file can't differ from `--help`. It
//! also finds variables that look like settings but are not.

use clap::{Args, Command};

use super::Settings;

const HEAD: &str = "\
# Every setting of the service with its default; those without a default are commented out and show an example.
# Rendered by `aside env-example`; a test compares. Flags of the same names exist (--bind-addr) and win.
# A variable that is set but empty is not set.
";

/// The text of `.env.example`.
pub fn env_example() -> String {
    let command = definitions();
    let mut text = HEAD.to_owned();
    let mut heading = "";
    for arg in command.get_arguments() {
        let Some(name) = arg.get_env().and_then(|name| name.to_str()) else {
            continue;
        };
        let group = arg.get_help_heading().unwrap_or_default();
        if group != heading {
            heading = group;
            text.push_str(&format!("\n# ---- {group}\n"));
        }
        let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
        // clap removes the last full stop.
        for line in wrap(&format!("{help}."), 110) {
            text.push_str(&format!("# {line}\n"));
        }
        match arg.get_default_values().first() {
            Some(default) => text.push_str(&format!("{name}={}\n", default.to_string_lossy())),
            None => {
                let example = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
                text.push_str(&format!("#{name}={example}\n"));
            }
        }
    }
    text
}

/// Returns the names that begin like settings of this service but are not settings. They are most
/// likely typing errors.
pub fn unknown_names(names: impl Iterator<Item = String>) -> Vec<String> {
    let command = definitions();
    let known = |name: &str| command.get_arguments().any(|arg| arg.get_env().is_some_and(|env| env == name));
    let ours = |name: &str| ["CACHE_", "CDN_", "MANAGEMENT_"].iter().any(|begin| name.starts_with(begin));
    names.filter(|name| ours(name) && !known(name)).collect()
}

fn definitions() -> Command {
    Settings::augment_args(Command::new("aside"))
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
