//! Counters of the calls of L2.

use super::counters::Counters;

/// The calls of L2 by operation and result, and the fills by result.
#[derive(Debug, Default)]
pub(crate) struct L2Metrics {
    pub(super) calls: Counters<(&'static str, &'static str)>,
    pub(super) fills: Counters<&'static str>,
}

impl L2Metrics {
    /// Counts one call with the result `ok`, `failed` or `skipped`.
    pub(crate) fn call(&self, operation: &'static str, result: &'static str) {
        self.calls.add(&(operation, result), 1);
    }

    /// Counts one fill with its result.
    pub(crate) fn filled(&self, result: &'static str) {
        self.fills.add(&result, 1);
    }
}
