//! Shows the progress of the load: a bar on a terminal, a line per file elsewhere, nothing in
//! tests. It is written to standard error.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar, and a line per finished step.
    Bar,
    /// A line per finished step.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// Selects a bar if standard error is a terminal, and lines otherwise.
    pub fn for_terminal() -> Self {
        if io::stderr().is_terminal() { Self::Bar } else { Self::Lines }
    }
}

/// One step of the load, such as reading a file.
pub(super) struct Step {
    progress: Progress,
    bar: ProgressBar,
    name: &'static str,
    began: Instant,
}

impl Step {
    /// Begins a step of `length` bytes; 0 when its length is unknown.
    pub(super) fn begin(progress: Progress, name: &'static str, length: u64) -> Self {
        let bar = if progress == Progress::Bar { bar(name, length) } else { ProgressBar::hidden() };
        Self { progress, bar, name, began: Instant::now() }
    }

    /// Advances to `position` bytes.
    pub(super) fn advance_to(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Ends the step and prints its result.
    pub(super) fn finish(self, done: &str) {
        self.bar.finish_and_clear();
        if self.progress != Progress::Silent {
            eprintln!("{:<9} {done} in {:.1} s", self.name, self.began.elapsed().as_secs_f64());
        }
    }
}

fn bar(name: &'static str, length: u64) -> ProgressBar {
    let bar = if length == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(length) };
    let layout =
        if length == 0 { "{prefix:<9} {spinner} {elapsed}" } else { "{prefix:<9} {wide_bar} {percent:>3}% {eta}" };
    // The templates above are valid. If one were not, indicatif's default style would be used.
    if let Ok(style) = ProgressStyle::with_template(layout) {
        bar.set_style(style);
    }
    bar.set_prefix(name);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
