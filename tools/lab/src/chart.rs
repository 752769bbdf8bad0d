//! Charts over time, one below the other, with the faults as bands in the background.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 730.0;
const HEIGHT: f64 = 150.0;
const GAP: f64 = 44.0;
const TOP: f64 = 34.0;

/// A line, or a layer of a stack.
pub struct Series {
    pub name: String,
    pub colour: &'static str,
    /// Moments in seconds, and values.
    pub points: Vec<(f64, f64)>,
}

pub enum Form {
    /// Layers, one on top of the other. All have the same moments.
    Stacked,
    /// Lines on a scale from zero.
    Lines,
    /// Lines on a scale of powers of ten.
    Powers,
}

pub struct Chart {
    pub title: &'static str,
    pub form: Form,
    pub series: Vec<Series>,
}

/// A fault: from, to, name.
pub type Band = (f64, f64, &'static str);

/// The picture. Its background is white, so that it is readable on any page.
pub fn svg(charts: &[Chart], bands: &[Band], seconds: f64) -> String {
    let x = |second: f64| LEFT + second / seconds * (RIGHT - LEFT);
    let total = TOP + charts.len() as f64 * (HEIGHT + GAP);
    let mut body = String::new();
    for (from, to, name) in bands {
        let _ = writeln!(
            body,
            "<rect x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f6e3c5\"/>\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#8a5a00\">{name}</text>",
            x(*from),
            x(*to) - x(*from),
            total - TOP - GAP,
            x((from + to) / 2.0),
            TOP - 6.0
        );
    }
    for (at, chart) in charts.iter().enumerate() {
        draw(&mut body, chart, TOP + at as f64 * (HEIGHT + GAP), &x, seconds);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn draw(body: &mut String, chart: &Chart, top: f64, x: &impl Fn(f64) -> f64, seconds: f64) {
    let bottom = top + HEIGHT;
    let highest = highest(chart);
    let y = |value: f64| match chart.form {
        Form::Powers => bottom - (value.max(0.1).log10() + 1.0) / (highest.log10() + 1.0) * (HEIGHT - 14.0),
        Form::Stacked | Form::Lines => bottom - value / highest * (HEIGHT - 14.0),
    };
    let _ = writeln!(body, "<text x=\"{LEFT}\" y=\"{}\" font-size=\"13\">{}</text>", top + 10.0, chart.title);
    let ticks: Vec<f64> = match chart.form {
        Form::Powers => (-1..=highest.log10().ceil() as i32).map(|power| 10f64.powi(power)).collect(),
        Form::Stacked | Form::Lines => vec![0.0, highest / 2.0, highest],
    };
    for tick in ticks.into_iter().filter(|tick| *tick <= highest) {
        let _ = writeln!(
            body,
            "<path d=\"M{LEFT} {:.1}H{RIGHT}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            y(tick),
            LEFT - 5.0,
            y(tick) + 4.0
        );
    }
    for second in (0..=seconds as u32).step_by(if seconds > 30.0 { 10 } else { 2 }) {
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>",
            x(f64::from(second)),
            bottom + 14.0
        );
    }
    let mut below = vec![0.0; chart.series.first().map_or(0, |first| first.points.len())];
    for (at, series) in chart.series.iter().enumerate() {
        match chart.form {
            Form::Stacked => layer(body, series, &mut below, x, &y),
            Form::Lines | Form::Powers => {
                let points: Vec<String> =
                    series.points.iter().map(|(t, value)| format!("{:.1},{:.1}", x(*t), y(*value))).collect();
                let _ = writeln!(
                    body,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
                    points.join(" "),
                    series.colour
                );
            }
        }
        let legend = top + 14.0 + at as f64 * 16.0;
        let _ = writeln!(
            body,
            "<rect x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"{legend}\">{}</text>",
            RIGHT + 10.0,
            legend - 9.0,
            series.colour,
            RIGHT + 25.0,
            series.name
        );
    }
}

/// Draws a layer on top of `below`, and adds the layer to `below`.
fn layer(body: &mut String, series: &Series, below: &mut [f64], x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) {
    let mut outline: Vec<String> = series
        .points
        .iter()
        .zip(&*below)
        .rev()
        .map(|((t, _), under)| format!("{:.1},{:.1}", x(*t), y(*under)))
        .collect();
    for ((t, value), under) in series.points.iter().zip(below) {
        *under += value;
        outline.push(format!("{:.1},{:.1}", x(*t), y(*under)));
    }
    let _ = writeln!(body, "<polygon points=\"{}\" fill=\"{}\"/>", outline.join(" "), series.colour);
}

/// The upper end of the scale: a round number above all values.
fn highest(chart: &Chart) -> f64 {
    let values = |series: &Series| series.points.iter().map(|(_, value)| *value).collect::<Vec<_>>();
    let all: Vec<Vec<f64>> = chart.series.iter().map(values).collect();
    let most = match chart.form {
        Form::Stacked => {
            (0..all.first().map_or(0, Vec::len)).map(|at| all.iter().map(|layer| layer[at]).sum()).fold(1.0, f64::max)
        }
        Form::Lines | Form::Powers => all.iter().flatten().copied().fold(1.0, f64::max),
    };
    let power = 10f64.powf(most.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|end| *end >= most).unwrap_or(most)
}
