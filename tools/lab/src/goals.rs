//! Figures and the goals that they must reach, as rows of one table.

use crate::{
    numbers::{Spread, short},
    report::Section,
};

/// One case with its figure and its goal.
pub struct Goal {
    case: String,
    measured: String,
    goal: String,
    is_reached: bool,
    /// Whether the figure is a time, which a busy machine changes.
    is_timing: bool,
}

impl Goal {
    /// A case that must never occur, in all rounds together.
    pub fn none(case: impl Into<String>, count: f64, of: f64) -> Self {
        Self {
            case: case.into(),
            measured: format!("{} of {}", short_count(count), short_count(of)),
            goal: "0".to_owned(),
            is_reached: count == 0.0 && of > 0.0,
            is_timing: false,
        }
    }

    /// The median of these figures must be at least this. There is one figure for each round.
    pub fn at_least(case: impl Into<String>, figures: &[f64], goal: f64) -> Self {
        let spread = Spread::of(figures);
        Self::timing(case, &spread, format!("≥ {}", short(goal)), spread.median >= goal)
    }

    /// The median of these figures must be at most this.
    pub fn at_most(case: impl Into<String>, figures: &[f64], goal: f64) -> Self {
        let spread = Spread::of(figures);
        Self::timing(case, &spread, format!("≤ {}", short(goal)), spread.median <= goal)
    }

    fn timing(case: impl Into<String>, spread: &Spread, goal: String, is_reached: bool) -> Self {
        Self { case: case.into(), measured: spread.cell(), goal, is_reached, is_timing: true }
    }

    fn row(&self) -> Vec<String> {
        let verdict = if self.is_reached { "reached" } else { "**not reached**" };
        vec![self.case.clone(), self.measured.clone(), self.goal.clone(), verdict.to_owned()]
    }
}

fn short_count(count: f64) -> String {
    crate::numbers::grouped(count as i64)
}

/// The ratios of two figures, round by round.
pub fn ratios(figures: &[f64], base: &[f64]) -> Vec<f64> {
    figures.iter().zip(base).map(|(figure, base)| figure / base).collect()
}

/// The table. In a short run, only the goals that hold on any machine count.
pub fn section(method: String, goals: &[Goal], is_short: bool) -> Section {
    let mut section = Section {
        title: "Against a service without a cache",
        method,
        columns: ["case", "measured", "goal", ""].map(str::to_owned).to_vec(),
        rows: goals.iter().map(Goal::row).collect(),
        picture: None,
        checks: Vec::new(),
    };
    let counted = goals.iter().filter(|goal| !(is_short && goal.is_timing));
    let missed = counted.filter(|goal| !goal.is_reached).count();
    section.check(if is_short { "nothing is refused" } else { "every goal is reached" }, missed == 0);
    section
}
