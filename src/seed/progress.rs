//! How far the load is: a bar on a terminal, a line per file elsewhere, nothing in tests. Written to standard error.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on a terminal; where there is none, one plain line per finished step.
    Shown,
    /// Nothing.
    Silent,
}

/// One step of the load, such as reading a file.
pub(super) struct Step {
    bar: ProgressBar,
    /// Plain lines instead of the bar.
    plain: bool,
    name: &'static str,
    began: Instant,
}

impl Step {
    /// Begins a step of `length` bytes; 0 when its length is unknown.
    pub(super) fn begin(progress: Progress, name: &'static str, length: u64) -> Self {
        let bar = match (progress, length) {
            (Progress::Silent, _) => ProgressBar::hidden(),
            (Progress::Shown, 0) => ProgressBar::new_spinner(),
            (Progress::Shown, length) => ProgressBar::new(length),
        };
        let layout =
            if length == 0 { "{prefix:<9} {spinner} {elapsed}" } else { "{prefix:<9} {wide_bar} {percent:>3}% {eta}" };
        if let Ok(style) = ProgressStyle::with_template(layout) {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        if length == 0 && !bar.is_hidden() {
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
        }
        // indicatif hides a bar by itself where standard error is no terminal.
        let plain = progress == Progress::Shown && bar.is_hidden();
        Self { bar, plain, name, began: Instant::now() }
    }

    /// Advances to `position` bytes.
    pub(super) fn advance_to(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Ends the step and says what it did.
    pub(super) fn finish(self, done: &str) {
        let line = format!("{:<9} {done} in {:.1} s", self.name, self.began.elapsed().as_secs_f64());
        self.bar.println(&line);
        self.bar.finish_and_clear();
        if self.plain {
            eprintln!("{line}");
        }
    }
}
