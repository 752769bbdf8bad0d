//! Medians, spreads and ratios.

/// The median of some values, their minimum and their maximum.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { median: quantile(&mut sorted, 0.5), low: sorted[0], high: sorted[sorted.len() - 1] }
    }

    /// The ratios of values to those of the same rounds in `base`. Effects that slow a whole round
    /// cancel out.
    pub fn of_ratios(values: &[f64], base: &[f64]) -> Self {
        let ratios: Vec<f64> = values.iter().zip(base).map(|(value, base)| value / base).collect();
        Self::of(&ratios)
    }

    /// Median, minimum and maximum, as a cell of a table.
    pub fn cell(&self) -> String {
        let Self { median, low, high } = *self;
        format!("{} ({}–{})", short(median), short(low), short(high))
    }
}

/// The value below which this part of the values lies.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = part * (values.len() - 1) as f64;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// A number with its significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 99.5 => grouped(value.round() as i64),
        size if size >= 9.95 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with separated thousands.
pub fn grouped(value: i64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
