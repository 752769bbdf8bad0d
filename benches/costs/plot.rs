//! All figures as one picture: bars from zero, with the spread as a thin line.

use std::fmt::Write;

use crate::{
    figure::Figure,
    numbers::{Spread, short},
};

const WIDTH: f64 = 860.0;
const BAR: f64 = 20.0;
/// The left end of the bars, and the right end of the longest one.
const LEFT: f64 = 400.0;
const RIGHT: f64 = 780.0;

/// The picture. Its background is white, so that it is readable on any page.
pub fn svg(figures: &[Figure]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for figure in figures {
        let _ = writeln!(
            body,
            "<text x=\"10\" y=\"{}\" font-size=\"14\">{} <tspan fill=\"#666\" font-size=\"12\">{}</tspan></text>",
            y + 16.0,
            figure.title,
            figure.scale
        );
        y += 26.0;
        let most = figure.bars.iter().map(|(_, spread)| spread.high).fold(f64::MIN_POSITIVE, f64::max);
        for (tag_version, spread) in &figure.bars {
            bar(&mut body, y, tag_version, spread, (RIGHT - LEFT) / most);
            y += BAR;
        }
        y += 14.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn bar(body: &mut String, y: f64, tag_version: &str, spread: &Spread, scale: f64) {
    let at = |value: f64| LEFT + value * scale;
    let (low, high) = (at(spread.low), at(spread.high));
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{tag_version}</text>\
         <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"#3b6ea5\"/>\
         <path d=\"M{low:.1} {middle}H{high:.1}\" stroke=\"#b3261e\"/><text x=\"{:.1}\" y=\"{text}\">{}</text>",
        LEFT - 8.0,
        spread.median * scale,
        BAR - 5.0,
        high + 6.0,
        short(spread.median),
        text = y + 12.0,
        middle = y + (BAR - 5.0) / 2.0,
    );
}
