//! The ages of stale answers when they were requested, as a table and as a plot.

use std::fmt::Write;

use crate::check::history::Micros;

/// The upper bounds of the classes in milliseconds. An age above the last one breaks a promise.
const CLASSES: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 350, 500];

pub struct Histogram {
    current: usize,
    /// Counts by class. The last count is for ages above all classes.
    old: [usize; CLASSES.len() + 1],
    oldest: Micros,
}

impl Histogram {
    pub fn of(staleness: &[Micros]) -> Self {
        let mut histogram = Self { current: 0, old: [0; CLASSES.len() + 1], oldest: 0 };
        for age in staleness {
            histogram.oldest = histogram.oldest.max(*age);
            match age {
                0 => histogram.current += 1,
                age => histogram.old[CLASSES.partition_point(|end| end * 1000 < *age)] += 1,
            }
        }
        histogram
    }

    fn rows(&self) -> Vec<(String, usize)> {
        let name = |class: usize| match CLASSES.get(class) {
            Some(end) => format!("up to {end} ms"),
            None => format!("above {} ms", CLASSES[CLASSES.len() - 1]),
        };
        let old = self.old.iter().enumerate().map(|(class, count)| (name(class), *count));
        std::iter::once(("current".to_owned(), self.current)).chain(old).collect()
    }

    /// A text line for each class, and the highest age.
    pub fn table(&self) -> String {
        let all = (self.current + self.old.iter().sum::<usize>()).max(1);
        let mut text = String::new();
        for (name, count) in self.rows() {
            let share = count as f64 * 100.0 / all as f64;
            // Each mark is a power of two. Otherwise rare classes would be invisible.
            let marks = "#".repeat(count.checked_ilog2().map_or(0, |log| log as usize + 1));
            let _ = writeln!(text, "  {name:>13}  {count:>8}  {share:>8.4} %  {marks}");
        }
        let _ = writeln!(text, "  the oldest was {:.1} ms old", self.oldest as f64 / 1000.0);
        text
    }

    /// The same figures as a picture, on a logarithmic scale.
    pub fn svg(&self, title: &str) -> String {
        let (width, bar, left) = (720.0, 22.0, 130.0);
        let rows = self.rows();
        let height = 60.0 + bar * rows.len() as f64;
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(2) as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" font-size=\"14\">{title}</text>\n"
        );
        for (at, (name, count)) in rows.iter().enumerate() {
            let y = 36.0 + bar * at as f64;
            let long = if *count == 0 { 0.0 } else { ((*count as f64).ln() + 0.7) / (most.ln() + 0.7) };
            let long = long * (width - left - 90.0);
            let colour = if at == rows.len() - 1 { "#b3261e" } else { "#3b6ea5" };
            let middle = y + bar * 0.65;
            let _ = writeln!(
                svg,
                "<text x=\"{0}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{left}\" y=\"{y}\" width=\"{long:.1}\" height=\"{1}\" fill=\"{colour}\"/>\
                 <text x=\"{2:.1}\" y=\"{middle}\">{count}</text>",
                left - 8.0,
                bar - 4.0,
                left + long + 6.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}
