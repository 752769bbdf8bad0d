//! Logs: structured, to standard error (standard output belongs to the answers of subcommands). Text for people, JSON for
//! machines. Imports nothing else of this crate.

use std::io;

use tracing_subscriber::EnvFilter;

/// Starts logging for the process. Later calls change nothing, so tests may call it as often as they like.
///
/// `filter` are directives of [`EnvFilter`]; those that can't be understood are left out (`config` has checked them before).
pub fn init(filter: &str, json: bool) {
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(io::stderr);
    // A second subscriber is refused; the first one stays.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init()
    };
}

/// Sends panics to the log, where the other lines are, instead of to standard error in a form of their own.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked")));
}
