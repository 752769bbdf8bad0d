//! One figure: its table, its bars, and the order in which its variants are measured.

use crate::numbers::Spread;

/// The measurement for one question.
pub struct Figure {
    pub title: &'static str,
    /// The method, and the number of repetitions.
    pub method: String,
    pub columns: &'static [&'static str],
    pub rows: Vec<Vec<String>>,
    /// The quantity that the bars show, and the bars.
    pub scale: &'static str,
    pub bars: Vec<(String, Spread)>,
}

impl Figure {
    /// The section of the document.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<String> = self.columns.iter().map(|column| (*column).to_owned()).collect();
        let rule = format!("|{}|\n", vec!["---"; head.len()].join("|"));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("## {}\n\n{}\n\n{}{rule}{rows}", self.title, self.method, line(&head))
    }
}

/// Measures every variant once a round. Each round begins with another variant, so that changes of
/// the machine affect all of them. Returns the results by variant, then by round.
pub async fn interleaved<V, R>(rounds: usize, variants: &[V], measure: impl AsyncFn(&V) -> R) -> Vec<Vec<R>> {
    let mut results: Vec<Vec<R>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        eprintln!("  round {} of {rounds}", round + 1);
        for step in 0..variants.len() {
            let at = (round + step) % variants.len();
            results[at].push(measure(&variants[at]).await);
        }
    }
    results
}
