//! Reads the environment. A variable that is set but empty counts as not set. Compose files and
//! scripts write `PORT=${PORT:-}` for a missing value, and the empty text is not a valid value of
//! any setting.

use std::env;

use clap::Command;

/// Removes variables that are empty now from the definitions of flags, so that the defaults apply.
/// `tests/contract/environment.rs` runs the program with all of them empty.
pub fn without_empty_variables(command: Command) -> Command {
    command.mut_args(|arg| {
        let value = arg.get_env().and_then(env::var_os);
        if value.is_some_and(|value| value.is_empty()) { arg.env(None::<&str>) } else { arg }
    })
}

/// The names of the variables that are set.
pub fn names_of_variables() -> impl Iterator<Item = String> {
    env::vars_os().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.into_string().ok())
}
